"""Network, master or element go silent for a while and come back, on a real Grid Engine."""

from collections import Counter
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.faults import fault
from tests.user import User
from tests.waiting import until

LEASE = 3


WORK = """
def work(i, seconds):
    import time
    def note(word):
        with open("/home/sheep/ran", "a") as file: file.write(f"{word} {i}\\n")
    note("begins")
    time.sleep(seconds)
    note("ends")
    return i * i
"""


class Request:
    """A request of tasks that take their time, and leave a line when they begin and one when they end."""

    def __init__(self, user: User, ran: Path) -> None:
        self.user = user
        self.ran = ran

    def start(self, seconds: float, tasks: int = 8, **options: object) -> None:
        config = {"workers": 8, "lease": LEASE, **options}
        call = f"sheepdog.map_async(work, [(i, {seconds}) for i in range({tasks})], {{**C, **{config!r}}})"
        self.user.run(WORK + call)

    def started(self, seconds: float, tasks: int = 8, **options: object) -> None:
        """Start the tasks, and wait until each of eight workers runs one."""
        self.start(seconds, tasks, **options)
        until(lambda: len(self.lines("begins")) >= 8 and self.running() == 8, "eight workers run")

    def running(self) -> int:
        return len(self.user.sh("head", "qstat -g d -s r -u sheep | grep ' r '").splitlines())

    def check(self, tasks: int = 8) -> None:
        """Wait until all is done. Each task has its own result."""
        results, errors = self.user.run("show([[r for _, r in sheepdog.get_results(1, DB)], errors()])")
        assert (results, errors) == ([i * i for i in range(tasks)], [])

    def stored(self) -> int:
        """How many tasks have ended, as the store knows."""
        return int(self.user.run("show(Storage(DB).count_results(1))"))

    def runs(self) -> Counter[str]:
        """How often each task came to its end."""
        return Counter(self.lines("ends"))

    def lines(self, word: str) -> list[str]:
        lines = self.ran.read_text().splitlines() if self.ran.exists() else []
        return [line.split()[1] for line in lines if line.startswith(word)]


@pytest.fixture
def request_(user: User) -> Request:
    return Request(user, user.cluster.home_of("sheep") / "ran")


def daemon(cluster: Cluster, host: str, name: str, signal: str) -> None:
    cluster.on(host, ["pkill", f"-{signal}", "-x", name])  # of this host's own namespace


# The network


@pytest.mark.parametrize(("host", "heard"), [("node2", 4), ("outside", 0)])
@fault(9, "a link is down for less than the lease", promise="outcomes are delivered after it; each task runs once")
def test_short_cut(request_: Request, host: str, heard: int) -> None:
    request_.started(2, lease=15)
    request_.user.cluster.cut(host)
    before = request_.stored()
    try:
        until(lambda: len(request_.runs()) == 8, "the tasks have ended meanwhile")
        until(lambda: request_.stored() >= heard, "those that are not cut off have delivered")
        assert request_.stored() == (heard or before)
    finally:
        request_.user.cluster.mend(host)
    request_.check()
    assert set(request_.runs().values()) == {1}


@fault(
    11,
    "packets are lost in one direction only",
    promise="calls are tried again until they succeed; each task runs once",
)
def test_one_way_cut(request_: Request) -> None:
    """What node2 says arrives outside; no answer to it comes back."""
    cluster = request_.user.cluster
    request_.started(6, lease=30)  # there is a heartbeat meanwhile
    address = f"/dev/tcp/outside/{request_.user.run('show(sheepdog.Server(dbfile=DB).port)')}"
    reach = ["timeout", "2", "bash", "-c", f"exec 3<>{address}"]
    cluster.on("outside", ["ip", "route", "add", "blackhole", "10.88.0.3"])
    try:
        assert cluster.on("node1", reach, check=False).returncode == 0
        assert cluster.on("node2", reach, check=False).returncode == 124
        until(lambda: len(request_.runs()) == 8, "the tasks have ended meanwhile")
    finally:
        cluster.on("outside", ["ip", "route", "del", "blackhole", "10.88.0.3"])
    request_.check()
    assert set(request_.runs().values()) == {1}


# The scheduler


@fault(
    (42, "qmaster down"),
    "the qmaster hangs, and qstat with it",
    promise="results arrive meanwhile; no task ends for it",
)
def test_master_that_hangs(request_: Request) -> None:
    cluster = request_.user.cluster
    request_.started(2, tasks=16)
    daemon(cluster, "head", "sge_qmaster", "STOP")
    try:
        request_.check(16)
        assert set(request_.runs().values()) == {1}
    finally:
        daemon(cluster, "head", "sge_qmaster", "CONT")


@fault(
    (36, "preemption"),
    "an element is suspended for longer than the lease, then goes on",
    promise="one outcome, whoever is first",
)
def test_element_that_is_suspended(request_: Request) -> None:
    user = request_.user
    request_.started(2, tasks=16)
    job = user.run("show(Storage(DB).arrays(1)[0].job)")
    user.sh("head", f"qmod -sj {job}.2")
    until(lambda: " s " in user.sh("head", "qstat -g d"), "it is suspended")
    try:
        request_.check(16)
    finally:
        user.sh("head", f"qmod -usj {job}.2")
    until(lambda: not user.queue(), "it has learnt that all is done", timeout=60)
    request_.check(16)
