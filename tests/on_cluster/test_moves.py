"""The submitting host gets another address while its array jobs run on a real Grid Engine."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import BRIDGES
from tests.cluster.files import ADDRESSES
from tests.faults import fault
from tests.on_cluster.programs import log_of, ran_so_far, run
from tests.user import User
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

LOOPBACK = "127.0.1.1"
BEFORE = ADDRESSES["outside"]
AFTER = BEFORE.rpartition(".")[0] + ".77"


def move(user: User, old: str, new: str) -> None:
    """Give the host another address, as a VPN does that takes the place of a network."""
    script = f"ip addr del {old}/24 dev eth0; ip addr add {new}/24 dev eth0"  # the other way round takes both
    user.sh("outside", f"{script}; ip route replace default via {BRIDGES['wan']}", user="root")


@pytest.fixture
def debian(user: User) -> Iterator[None]:
    """The host's own name is one of the loopback there, as Debian's /etc/hosts has it."""
    change = r"sed -i 's/^{}\(.*\boutside\b\)/{}\1/' /etc/hosts; getent hosts outside"
    assert LOOPBACK in user.sh("outside", change.format(BEFORE, LOOPBACK), user="root")
    yield
    user.sh("outside", change.format(LOOPBACK, BEFORE), user="root")


@fault(
    "another address",
    "the submitting host gets another address while workers run and wait",
    promise="those that run find it again, those that wait and those to come are told; cancel reaches all",
)
@fault(
    "another address",
    "the submitting host's own name is one of the loopback there, and its address changes",
    promise="the head node says that the name leads there no more; workers are told the address",
)
@pytest.mark.usefixtures("debian")
def test_the_submitting_host_gets_another_address(user: User) -> None:
    code = f"""
        C.update(workers=8, localhost={BEFORE!r})
        sheepdog.map_async(note, [(i, 4) for i in range(60)], C)
        until(lambda: os.path.exists(DB) and Storage(DB).count_results(1) >= 8)
        del C["localhost"]
        sheepdog.map_async(note, [(i, 600) for i in range(100, 108)], C)  # there is no room: they wait
        until(lambda: "qw" in qstat())
        with Storage(DB) as storage: show([array.urls[0].rpartition(":")[0] for array in storage.arrays(2)])
    """
    assert run(user, code) == ["https://outside"]
    try:
        move(user, BEFORE, AFTER)
        until(lambda: f"the server is at https://{AFTER}:" in log_of(user), "workers are told", timeout=180)
        results, count = run(user, "show([results(), arrays()])", timeout=300)
        assert results == [i * i for i in range(60)]
        assert count == 1
        until(lambda: any(int(task) >= 100 for task, _, _ in ran_so_far(user)), "those that waited have come")
        notes, left = run(
            user,
            f"""
            with Storage(DB) as storage: notes = [storage.progress(request).note for request in (1, 2)]
            with Storage(DB) as storage: told = [array.urls[0] for array in storage.arrays(2)]
            assert all({AFTER!r} in url for url in told), told
            sheepdog.cancel(2, DB)
            until(lambda: not qstat())
            show([notes, qstat()])
            """,
        )
        assert left == ""
        assert not any(note.rstrip().endswith(":") for note in notes)
    finally:
        move(user, AFTER, BEFORE)
