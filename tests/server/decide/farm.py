"""The server's decisions to try out: a service over a real store, whose clock stands until it is moved."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sheepdog.client import PROTOCOL, Message, describe_python
from sheepdog.server.calls import Call, Reply
from sheepdog.server.decide import arrays, clock, exchange
from sheepdog.server.decide.live import LiveRequest
from sheepdog.server.decide.service import Service
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, End, JobStatus, Kind, RequestState
from sheepdog.values.serialisation import form

LEASE = 150.0
LONGEST_PAUSE = 60.0  # between two tries of a worker that cannot reach the server
GONE = JobStatus(
    reason="2 workers ended with exit status 1",
    started=True,
    ends=tuple(End("exit status 1", element=name) for name in "12"),
)
LARGE = 10_000_000
NOTHING: Mapping[int, Any] = {}


class Farm:
    """A service with one request, and workers that call it."""

    def __init__(
        self, storage: Storage, args: list[bytes], workers: int = 2, open: bool = False, **options: Any
    ) -> None:
        self.storage = storage
        self.now = 1000.0
        options = {"lease": LEASE, **options}
        self.request = storage.new_request(b"function", b"ns", args, form=form(), options=options, open=open)
        self.submit(workers)
        self.calls = 0
        self.restart()

    def submit(self, workers: int, level: int = 0) -> ArrayJob:
        """Submit an array job, as whoever dispatches the request does."""
        planned = ArrayJob(0, "name", "dir", workers, level, urls=("https://here:1",))
        array = self.storage.new_array(self.request, planned)
        array = replace(array, job=str(11 + array.number))
        assert self.storage.set_submitted(self.request, array)
        return array

    def restart(self) -> None:
        self.service = Service(self.storage, lambda: self.now)

    def call(self, verb: str, header: dict[str, Any], blobs: Sequence[Any] = ()) -> Reply:
        return exchange.handle(self.service, Call(self.request, verb, header, list(blobs)))

    def join(self, worker: str, **header: Any) -> Reply:
        about = {"worker": worker, "host": "node1", "element": worker[1:], "array": 1, "protocol": PROTOCOL}
        return self.call("join", {**about, "python": describe_python(), **header})

    def exchange(
        self,
        worker: str,
        want: int,
        outcomes: Mapping[int, Any] = NOTHING,
        holding: Collection[int] = (),
        kind: Kind = Kind.RESULT,
        attempt: int = 1,
        messages: Sequence[Message] = (),
        **header: Any,
    ) -> Reply:
        """Make a call. The outcomes are of one kind and attempt; holding may tell the attempts, else they are first."""
        self.calls += 1
        about = {"worker": worker, "host": "node1", "element": worker[1:], "array": 1, "call": self.calls, "want": want}
        held = holding if isinstance(holding, Mapping) else dict.fromkeys(holding, 1)
        entries = {
            "outcomes": [[task, attempt, int(kind), 0.5] for task in outcomes],
            "holding": [[task, task, its] for task, its in held.items()],
            "messages": [[*message[:-1]] for message in messages],
        }
        blobs = [blob for value in outcomes.values() for blob in (value, b"")] + [each.value for each in messages]
        return self.call("exchange", {**about, **entries, **header}, blobs)

    def take(self, worker: str, want: int, holding: Sequence[int] = ()) -> list[int]:
        return [index for index, _ in self.exchange(worker, want, holding=holding).header["tasks"]]

    def heed(self, status: JobStatus, times: int = 1, array: int = 1) -> None:
        for _ in range(times):
            self.now += 30
            clock.heed(self.service, self.request, {array: status}, self.now)

    @property
    def reports(self) -> list[tuple[int, int, bytes]]:
        """What the tasks have reported: task, attempt, value."""
        return [(each.task, each.attempt, each.value) for each in self.storage.reports(self.request)]

    @property
    def state(self) -> RequestState:
        return self.storage.get_request(self.request).state

    @property
    def live(self) -> LiveRequest:
        live = self.service.find(self.request)
        assert live is not None
        return live

    @property
    def history(self) -> list[tuple[int, int, Kind, bool]]:
        """The attempts that did not end their tasks: task, attempt, kind, whether the policy counts it."""
        return [(each.task, each.attempt, each.kind, counts) for each, counts in self.storage.attempts(self.request)]

    @property
    def note(self) -> str:
        return self.storage.progress(self.request).note

    @property
    def errors(self) -> list[str]:
        return [outcome.value.decode() for _, outcome in self.storage.errors(self.request)]


def gone_after_work(farm: Farm, array: int = 1) -> None:
    """Workers have called, and the scheduler has nothing left of their array job."""
    farm.heed(GONE, times=2, array=array)


def submit_again(farm: Farm) -> bool:
    """Submit the workers that are wanted, and let them end."""
    wanted = clock.wanted(farm.service)
    for each in wanted:
        array = arrays.plan(farm.service, farm.request, ArrayJob(0, "n", "d", each.workers, each.level))
        arrays.submitted(farm.service, farm.request, replace(array, job=f"job{array.number}"))
        gone_after_work(farm, array.number)
    return bool(wanted)
