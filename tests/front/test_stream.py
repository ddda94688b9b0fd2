"""An open request: tasks go in, outcomes come out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sheepdog.config import Config
from sheepdog.errors import RequestNotFound, SchedulerError
from sheepdog.front.stream import Stream
from sheepdog.storage import Storage
from sheepdog.values.model import Kind, RequestState
from sheepdog.values.serialisation import deserialise, serialise_arguments
from tests.local import DB
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def stream(place: Path) -> Iterator[Stream]:
    with Stream(abs, Config(workers=1)) as stream:
        yield stream


def items(*numbers: int) -> list[bytes]:
    return list(serialise_arguments([(number,) for number in numbers]))


def wait_for(stream: Stream, tasks: int) -> None:
    until(lambda: stream.wait() == "" and len(list(stream.ended([(1, tasks)]))) == tasks, "the tasks have ended")


def test_tasks_go_in_and_outcomes_come_out(stream: Stream) -> None:
    assert stream.workers() == 1
    assert stream.begun() == 0
    assert stream.add(items(-1, -2)) == 1
    assert stream.add(items(-3)) == 3
    wait_for(stream, 3)
    assert stream.changed()
    assert [(o.task, o.kind, deserialise(o.value)) for o in stream.ended([(1, 1), (3, 9)])] == [(1, 0, 1), (3, 0, 3)]
    assert stream.begun() == 3
    assert stream.unended([(1, 3)]) == []
    assert not stream.progress().finished


def test_finish(stream: Stream) -> None:
    stream.add(items(-1))
    stream.finish()
    with pytest.raises(RequestNotFound, match="takes no more tasks"):
        stream.add(items(-2))
    wait_for(stream, 1)
    assert stream.progress().finished


def test_the_end_of_a_stream_is_the_end_of_its_request(place: Path) -> None:
    with Stream(abs, Config(workers=1)) as stream:
        stream.add(items(-1))
        wait_for(stream, 1)
    with Storage(DB) as storage:
        until(lambda: storage.get_request(stream.request).state == RequestState.CLOSED, "all is cleared up")


def test_what_is_withdrawn_is_cancelled(place: Path) -> None:
    import time

    with Stream(time.sleep, Config(workers=1)) as stream:
        stream.add(items(0, 300, 300))
        until(lambda: stream.wait() == "" and stream.begun() >= 2 and stream.unended([(1, 3)]) == [2, 3], "one runs")
        stream.withdraw(stream.unended([(1, 3)]))
        assert [o.kind for o in stream.ended([(1, 3)])] == [Kind.RESULT, Kind.CANCELLED, Kind.CANCELLED]
        stream.add(items(0))  # the worker that ran one of them is free again
        wait_for(stream, 4)
        assert [o.kind for o in stream.ended([(4, 4)])] == [Kind.RESULT]


def test_what_cannot_be_submitted_leaves_nothing(place: Path) -> None:
    with pytest.raises(SchedulerError), Stream(abs, Config(shell="/nonexistent/python", workers=1)):
        pass
    with Storage(DB) as storage, pytest.raises(RequestNotFound):
        storage.get_request(1)
