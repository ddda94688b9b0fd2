"""A submitting host that compute nodes cannot reach: their connections are passed on by its head node."""

import re
from collections.abc import Iterator

import pytest

from tests.faults import fault
from tests.on_cluster.programs import ran_so_far, run, shown, start
from tests.user import User
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(params=["dropped", "refused"])
def router(user: User, request: pytest.FixtureRequest) -> Iterator[str]:
    """Outside and the nodes do not reach each other: what they send is lost, or comes back."""
    user.sh("head", "echo 0 >/proc/sys/net/ipv4/ip_forward", user="root")
    if request.param == "refused":
        for node in ("node1", "node2"):
            user.sh(node, "ip route add unreachable 10.99.0.0/24", user="root")
    yield str(request.param)
    user.sh("head", "echo 1 >/proc/sys/net/ipv4/ip_forward", user="root")
    if request.param == "refused":
        for node in ("node1", "node2"):
            user.sh(node, "ip route del unreachable 10.99.0.0/24", user="root")


@fault(
    "way home",
    "compute nodes cannot connect to the submitting host, which reaches the head node only",
    promise="they call a relay on the head node; the user is told so, and why",
)
def test_map_from_behind_a_router(user: User, router: str) -> None:
    assert run(user, "show(sheepdog.map(f, [(i, 1) for i in range(8)], C))") == [*range(1, 9)]
    reason = "Network is unreachable|No route to host" if router == "refused" else "no answer"
    words = r"workers call this machine by the relay at .*:\d+, for node\d does not reach this machine itself"
    assert re.search(rf"{words} \(outside:\d+: .*({reason})", user.said)


RELAY = "pgrep -f 'sheepdog-[0-9a-f]{16}' | head -n 1"


@pytest.mark.usefixtures("router")
@pytest.mark.parametrize("router", ["dropped"], indirect=True)
@pytest.mark.parametrize("what", ["relay", "sshd", "master", "server"])
@fault(
    "way home",
    "the relay, its session, the connection or the server ends while workers call by it",
    promise="it comes again at the same place, and every task has one outcome",
)
def test_what_a_relay_needs_ends(user: User, what: str) -> None:
    code = """
        C.update(workers=8)
        request_id = sheepdog.map_async(note, [(i, 0.2) for i in range(200)], C)
        show([results() == [i * i for i in range(200)], len(attempts())])
    """
    client = start(user, code)
    until(lambda: len(ran_so_far(user)) >= 20, "some tasks have run")
    if what == "relay":
        assert user.sh("head", f"kill -9 $({RELAY}) && echo killed") == "killed\n"
    elif what == "sshd":
        user.sh("head", "pkill -9 -u sheep sshd", user="root")
    elif what == "master":
        user.sh("outside", "pkill -9 -f 'ssh.*ControlMaster'", user="root")
    else:
        user.sh("outside", "pkill -9 -f 'sheepdog serve'", user="root")
    right, lost = shown(client)
    assert right
    assert not lost or what == "server"  # what it has said last, nobody may have heard
