"""The rhythm: pauses, patience, and what makes the next call come sooner."""

from typing import Any

import pytest

from sheepdog.client.link import Later, Link, Refused
from sheepdog.client.parent.rhythm import Rhythm
from sheepdog.client.wire.limits import LEAVING_BEAT

FOREVER = float("inf")


class Silent(Link):
    """A link of which only the place and the silence matter here."""

    silence = 10.0
    place = "https://here:1"

    @property
    def where(self) -> str:
        return self.place


class Trial:
    """A rhythm, what it logs, and calls that fail or do not."""

    def __init__(self) -> None:
        self.link = Silent()
        self.log: list[str] = []
        self.rhythm = Rhythm(self.link, self.log.append)

    def fail(self, seconds: float = 0.0, patience: float = FOREVER, move: str = "") -> None:
        def call(deadline: float) -> Any:
            self.link.place = move or self.link.place
            raise Later("no route", seconds)

        assert self.rhythm.attempt(call, patience) is None

    def succeed(self) -> None:
        assert self.rhythm.attempt(lambda deadline: ({}, []), FOREVER) == ({}, [])


@pytest.fixture
def trial() -> Trial:
    return Trial()


def test_the_pauses_grow_to_less_than_a_lease(trial: Trial) -> None:
    pauses = []
    for _ in range(30):
        trial.fail()
        pauses.append(trial.rhythm.pause)
    assert pauses[0] <= 0.5
    assert all(5 < pause <= 3 * trial.link.silence for pause in pauses[8:])


def test_a_server_is_left_alone_for_as_long_as_it_asks(trial: Trial) -> None:
    trial.fail(seconds=60)
    assert 59 < trial.rhythm.pause <= 90


def test_a_server_that_does_not_answer_keeps_its_pause(trial: Trial) -> None:
    trial.fail(seconds=60)
    trial.rhythm.call_within(0)
    assert trial.rhythm.pause > 59
    trial.succeed()
    trial.rhythm.call_within(0)
    assert trial.rhythm.pause <= 0


def test_a_server_that_has_moved_is_called_at_once(trial: Trial) -> None:
    trial.fail(seconds=60, move="https://there:2")
    assert trial.rhythm.pause <= 0
    assert trial.log == ["cannot reach https://here:1 (no route); trying on", "the server is now at https://there:2"]


def test_patience_is_counted_from_the_last_answer(trial: Trial) -> None:
    trial.fail()
    trial.rhythm.failing_since -= 100
    trial.succeed()
    trial.fail(patience=50)
    trial.rhythm.failing_since -= 100
    with pytest.raises(Refused, match="no answer from the server for 50 s; the last error was: no route"):
        trial.fail(patience=50)


def test_the_log_says_a_failure_now_and_then_and_the_end_of_them(trial: Trial) -> None:
    for _ in range(99):
        trial.fail()
    trial.succeed()
    trial.succeed()
    assert trial.log == ["cannot reach https://here:1 (no route); trying on"] * 2 + ["the server answers again"]


def test_signs_of_life_come_as_often_as_the_link_asks(trial: Trial) -> None:
    trial.rhythm.beat()
    assert 7.9 < trial.rhythm.pause <= 12


def test_who_leaves_calls_at_once_then_often_and_with_a_deadline(trial: Trial) -> None:
    trial.rhythm.hurry(2.0)
    assert trial.rhythm.pause <= 0
    trial.fail(seconds=60)
    assert trial.rhythm.pause <= LEAVING_BEAT
    deadlines: list[float] = []
    trial.rhythm.attempt(lambda deadline: (deadlines.append(deadline), ({}, []))[1], FOREVER)
    trial.rhythm.call_in(0)
    assert deadlines[0] - trial.rhythm.next_call < 2.0 < deadlines[0] - trial.rhythm.next_call + 1.0
