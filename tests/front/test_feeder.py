"""The thread between a stream and its user: what it does at the end, however that comes."""

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from sheepdog.config import Config
from sheepdog.errors import SchedulerError, StorageBusy
from sheepdog.front.feeder import Feeder
from sheepdog.front.stream import Stream
from sheepdog.storage import Storage
from sheepdog.values.serialisation import deserialise, serialise_arguments
from tests.local import DB

pytestmark = pytest.mark.usefixtures("place")


class Echo(Feeder):
    """Adds a few tasks, and tells what came of them; then goes on until it is to leave."""

    def __init__(self, numbers: list[int], config: Config) -> None:
        self.said: list[str] = []
        super().__init__("echo", Stream(abs, config), self.said.append)
        self.numbers = numbers
        self.found: list[int] = []
        self.all_found = threading.Event()
        self.wrong: Exception | None = None
        self.problems: list[BaseException | None] = []

    def begin(self, stack: ExitStack) -> None:
        super().begin(stack)
        self.add([*serialise_arguments([(number,) for number in self.numbers])])

    def step(self) -> bool:
        if self.wrong is not None:
            raise self.wrong
        for outcome in [*self.stream.ended(self.out)]:
            self.out.remove(outcome.task)
            self.found.append(deserialise(outcome.value))
        if not self.out:
            self.all_found.set()
        if self.left:
            return False
        self.pause()
        return True

    def end(self, problem: BaseException | None) -> None:
        self.problems.append(problem)


def test_tasks_go_in_and_outcomes_come_out_until_the_user_leaves() -> None:
    feeder = Echo([-1, -2, -3], Config(workers=1))
    feeder.start()
    assert feeder.all_found.wait(60)
    assert feeder.is_alive()
    feeder.leave()
    feeder.join(60)
    assert not feeder.is_alive()
    assert sorted(feeder.found) == [1, 2, 3]
    assert feeder.problems == [None]


def test_what_goes_wrong_is_told_and_the_request_takes_no_more_tasks() -> None:
    feeder = Echo([-1], Config(workers=1))
    feeder.start()
    assert feeder.all_found.wait(60)
    feeder.wrong = ValueError("no")
    feeder.stream.wake()
    feeder.join(60)
    assert feeder.problems == [feeder.wrong]
    with Storage(DB) as storage:
        assert storage.progress(1).finished


def test_workers_that_cannot_be_had_are_told() -> None:
    feeder = Echo([-1], Config(shell="/nonexistent/python", workers=1))
    feeder.start()
    feeder.join(60)
    [problem] = feeder.problems
    assert isinstance(problem, SchedulerError)


def test_a_store_that_does_not_work_for_a_while_is_told_and_waited_for(place: Path) -> None:
    feeder = Echo([], Config(workers=1))
    with feeder.stream:
        feeder.stream.wake()  # nobody waits here
        feeder.pause_for(StorageBusy("the disk is full"))
    assert feeder.said == ["the disk is full"]
