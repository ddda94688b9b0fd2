"""The controller: who gets one, what it says, and what becomes of that on its way to the server."""

import functools
import operator
import pickle
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import CHECKPOINT, RAISED, REPORT, RESULT, TIMEOUT, Message
from sheepdog.client.function import asks_for_controller
from sheepdog.client.parent.child import Child
from tests.client.children import Start, death, give, outcomes, read
from tests.client.shepherd import WAIT_FOR, Shepherd
from tests.faults import fault
from tests.waiting import until

# Who gets one


class Model:
    def run(self, x: int, controller: Any) -> None: ...

    @classmethod
    def of(cls, controller: Any) -> None: ...

    def __call__(self, *, controller: Any) -> None: ...


class Made:
    def __init__(self, controller: Any) -> None: ...


def last(x: int, controller: Any) -> None: ...
def named(x: int, *, controller: Any) -> None: ...
def maybe(x: int, controller: Any = None) -> None: ...
def own(x: int, controller: Any = "pid") -> None: ...
def only_local(x: int) -> None:
    controller = x  # noqa: F841


def anything(**kwargs: Any) -> None: ...
def positional(controller: Any, /) -> None: ...


@functools.wraps(last)
def handed_on(*args: Any, **kwargs: Any) -> None: ...


@functools.wraps(last)
def held_back(x: int) -> None: ...


@functools.wraps(held_back)
def held_back_behind(*args: Any, **kwargs: Any) -> None: ...


def unfilled(f: Any, *args: Any, **kwargs: Any) -> bool:
    asks = asks_for_controller(f)
    return asks is not None and asks(args, kwargs)


@pytest.mark.parametrize(
    ("f", "args", "asks"),
    [
        (last, (1,), True),
        (last, (1, 2), False),
        (named, (1,), True),
        (named, (1, 2, 3), False),
        (maybe, (1,), True),
        (maybe, (1, None), False),
        (own, (1,), False),
        (only_local, (1,), False),
        (anything, (), False),
        (positional, (), False),
        (Model().run, (1,), True),
        (Model().run, (1, 2), False),
        (Model.of, (), True),
        (Model(), (), True),
        (Made, (), True),
        (functools.partial(last, 1), (), True),
        (functools.partial(last, 1), (2,), False),
        (functools.partial(last, controller=7), (1,), False),
        (functools.partial(functools.partial(Model().run, 1)), (), True),
        (handed_on, (1,), True),
        (held_back, (1,), False),
        (held_back_behind, (1,), False),
        (abs, (1,), False),
        (int, (1,), False),
        (operator.call, (last, 1), True),
        (operator.call, (last, 1, 2), False),
        (operator.call, (abs, 1), False),
        (operator.call, (), False),
    ],
)
def test_who_leaves_the_parameter_without_a_value_asks(f: Any, args: Any, asks: bool) -> None:
    assert unfilled(f, *args) is asks


def test_who_names_the_parameter_does_not_ask() -> None:
    assert not unfilled(last, 1, controller=None)
    assert not unfilled(operator.call, last, x=1, controller=None)
    assert unfilled(operator.call, last, x=1)


def test_what_cannot_be_looked_at_does_not_ask() -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __call__(self, controller: Any) -> None: ...

    assert not unfilled(Odd())


def test_an_ordinary_function_is_looked_at_once() -> None:
    assert asks_for_controller(abs) is asks_for_controller(only_local) is None


# What it is and says: real children


def act(source: str, controller: Any = None) -> Any:
    names: dict[str, Any] = {"controller": controller}
    exec(source, names)
    return names.get("result")


def messages(child: Child) -> list[tuple[int, int, Any]]:
    """What the tasks have said so far: number, kind, value."""
    return [(m.number, m.kind, pickle.loads(read(m.value))) for m in child.incoming.take_messages()]


def results(child: Child, count: int = 1) -> list[Any]:
    found = []
    for _, kind, value in outcomes(child, count):
        found.append(pickle.loads(value) if kind == RESULT else value.partition(b"\0")[0].decode().splitlines()[0])
    return found


def test_it_knows_its_task(start: Start) -> None:
    child = start(act, host="node7")
    source = "c = controller; result = c.request, c.id, c.attempt, c.host, c.deadline, c.restored(), c.restored(0)"
    child.give([(5, 3, pickle.dumps(((source,), {})))])
    assert results(child) == [(12, 5, 3, "node7", None, None, 0)]


@pytest.mark.parametrize(("timeout", "end", "left"), [(60, None, 60), (None, 90, 90), (60, 90, 60), (60, 30, 30)])
def test_its_deadline_is_the_first_of_those_that_are_known(
    start: Start, timeout: float | None, end: float | None, left: float
) -> None:
    before = time.time()
    child = start(act, timeout=timeout, end=before + end if end else None)
    give(child, ("result = controller.deadline",))
    [deadline] = results(child)
    assert before + left <= deadline <= time.time() + left


def test_reports_come_in_order_before_the_outcome(start: Start) -> None:
    child = start(act)
    give(child, ("for i in range(3): controller.report({'i': i})",), ("controller.report(None)",))
    assert results(child, 2) == [None, None]
    said = child.incoming.take_messages()
    assert [(m.task, m.attempt, m.kind, m.number) for m in said] == [
        *[(1, 1, REPORT, number) for number in (1, 2, 3)],
        (2, 1, REPORT, 4),
    ]
    assert [pickle.loads(m.value) for m in said] == [{"i": 0}, {"i": 1}, {"i": 2}, None]
    assert child.incoming.take_messages() == []


def test_what_was_said_just_before_a_death_is_heard(start: Start) -> None:
    child = start(act)
    give(child, ("import os, signal; controller.report(1); controller.checkpoint([2]); os.kill(os.getpid(), 9)",))
    _, outcome, _, _ = death(child)
    assert outcome is not None
    assert messages(child) == [(1, REPORT, 1), (2, CHECKPOINT, [2])]


def test_a_checkpoint_of_another_attempt_is_restored(start: Start) -> None:
    child = start(act)
    source = "first = controller.restored(); controller.checkpoint(first + 1); result = first, controller.restored()"
    tasks = [(index, 2, pickle.dumps(((source,), {}))) for index in (1, 2)]
    child.give(
        [*tasks, (3, 1, pickle.dumps((("result = controller.restored('none')",), {})))],
        {1: pickle.dumps(10), 2: pickle.dumps(20)},
    )
    assert results(child, 3) == [(10, 11), (20, 21), "none"]
    assert messages(child) == [(1, CHECKPOINT, 11), (2, CHECKPOINT, 21)]


def test_what_is_restored_is_a_copy(start: Start) -> None:
    child = start(act)
    source = "x = [1]; controller.checkpoint(x); x.append(2); controller.restored().append(3)"
    give(child, (source + "; result = controller.restored()",))
    assert results(child) == [[1]]


@pytest.mark.slow
def test_large_values_go_both_ways(start: Start, tmp_path: Path) -> None:
    child = start(act)
    size = 20_000_000
    source = f"controller.report(b'r' * {size}); controller.checkpoint(controller.restored() * 2); result = 1"
    with open(tmp_path / "checkpoint", "wb+") as file:
        file.write(pickle.dumps(b"c" * size))
        child.give([(1, 2, pickle.dumps(((source,), {})))], {1: file})
        assert results(child) == [1]
    assert messages(child) == [(1, REPORT, b"r" * size), (2, CHECKPOINT, b"c" * 2 * size)]


@pytest.mark.parametrize("say", ["report", "checkpoint"])
@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{}(x for x in ())", "TypeError: the {}, a generator, cannot be serialised: TypeError: cannot pickle"),
        ("{}(b'x' * 6000)", "ValueError: the {} has 60"),
    ],
)
def test_a_value_that_cannot_travel_is_an_error_at_once(start: Start, say: str, source: str, error: str) -> None:
    child = start(act, max_value=5000)
    give(child, ("controller." + source.format(say),), (f"controller.{say}(1)",))
    first, second = results(child, 2)
    assert first.startswith(error.format(say))
    assert second is None
    assert [value for _, _, value in messages(child)] == [1]


def test_only_the_task_s_own_process_says_something(start: Start) -> None:
    child = start(act)
    source = """
import multiprocessing
def say():
    try: controller.report(1)
    except RuntimeError as error: queue.put(str(error))
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=say)
process.start()
result = queue.get()
process.join()
"""
    give(child, (source,))
    assert results(child) == ["another process than the task's own has a report: hand the value to the task's"]
    assert messages(child) == []


def test_threads_may_say_something(start: Start) -> None:
    child = start(act)
    source = """
import threading
def say():
    for i in range(100): controller.report(b"x" * 5000)
threads = [threading.Thread(target=say) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    give(child, (source,))
    assert results(child) == [None]
    assert [value for _, _, value in messages(child)] == [b"x" * 5000] * 400


def test_a_signal_s_handler_that_raises_leaves_no_half_message(start: Start) -> None:
    child = start(act)
    source = """
import signal
class Late(Exception): pass
def late(*_): raise Late
signal.signal(signal.SIGALRM, late)
result = 0
for _ in range(100):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while True: controller.report(b"x" * 100_000)
    except Late:
        result += 1
signal.signal(signal.SIGALRM, signal.SIG_DFL)
"""
    give(child, (source,))
    assert results(child) == [100]
    said = child.incoming.take_messages()
    assert {message.value for message in said} == {pickle.dumps(b"x" * 100_000, 4)}
    assert [message.number for message in said] == [*range(1, len(said) + 1)]


def test_a_controller_that_is_kept_says_nothing_later(start: Start) -> None:
    child = start(act)
    give(child, ("import sys; sys.modules['kept'] = controller",), ("import sys; sys.modules['kept'].report(1)",))
    assert results(child, 2) == [None, "RuntimeError: the task has ended: its report came too late"]


@fault(
    "stdout closed",
    "a task closes all files, then reports",
    promise="an error in the task; no file of its own is touched",
)
def test_a_function_that_has_closed_the_worker_s_files_cannot_report(start: Start, tmp_path: Path) -> None:
    child = start(act)
    file = tmp_path / "own"
    source = f"""
import os
os.closerange(3, 1024)
files = [os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT) for _ in range(1015)]
controller.report(1)
"""
    give(child, (source,))
    assert results(child) == [
        "RuntimeError: the function has closed the worker's files: there is no way for its report"
    ]
    assert file.read_bytes() == b""


# On the way to the server: the worker as a process of its own


def values(said: list[Message], kind: int = REPORT) -> list[Any]:
    return [pickle.loads(each.value) for each in said if each.kind == kind]


def test_a_report_is_at_the_server_while_the_task_runs(shepherd: Shepherd, tmp_path: Path) -> None:
    go = tmp_path / "go"
    server = shepherd.serve((f"controller.report('soon')\nargs = {[str(go)]!r}\n{WAIT_FOR}",), heartbeat=60.0)
    server.function = act
    worker = shepherd.work(server)
    until(lambda: server.messages, "the report has come")
    assert server.outcomes == {}
    go.touch()
    assert worker.wait(60) == 0
    assert server.messages == [Message(1, 1, REPORT, 1, pickle.dumps("soon", 4))]


def test_a_checkpoint_that_the_server_has_is_given_to_the_task(shepherd: Shepherd) -> None:
    server = shepherd.serve(*[("result = controller.restored('none'), controller.host",)] * 30)
    server.function = act
    server.checkpoints = {7: pickle.dumps("seven"), 8: pickle.dumps("eight")}
    assert shepherd.work(server).wait(60) == 0, shepherd.log()
    host = socket.gethostname()
    expected = {7: "seven", 8: "eight"}
    assert server.results() == [(expected.get(index, "none"), host) for index in range(1, 31)]


def test_it_is_given_to_the_task_too_if_the_child_dies_before_it(shepherd: Shepherd) -> None:
    server = shepherd.serve(*[("0",)] * 40, ("import os; os._exit(3)",), *[("result = controller.restored()",)] * 40)
    server.function = act
    server.checkpoints = {index: pickle.dumps(index) for index in range(42, 82)}
    assert shepherd.work(server).wait(60) == 0, shepherd.log()
    assert server.results()[41:] == list(range(42, 82))


def test_its_deadline_leaves_time_to_deliver(shepherd: Shepherd) -> None:
    server = shepherd.serve(("import time; result = controller.deadline - time.time()",))
    server.function = act
    assert shepherd.work(server, time=600, notice=60).wait(60) == 0
    [left] = server.results()
    assert 560 < left <= 590


@pytest.mark.slow
def test_who_says_much_is_heard_in_few_calls(shepherd: Shepherd) -> None:
    server = shepherd.serve(("for i in range(20_000): controller.report(i)",), heartbeat=60.0)
    server.function = act
    worker = shepherd.work(server)
    assert worker.wait(60) == 0, shepherd.log()
    assert values(server.messages) == list(range(20_000))
    assert len(server.calls) < 100


def test_of_the_checkpoints_only_the_latest_are_sent(shepherd: Shepherd) -> None:
    server = shepherd.serve(("for i in range(20_000): controller.checkpoint(i)",), heartbeat=60.0)
    server.function = act
    assert shepherd.work(server).wait(60) == 0, shepherd.log()
    found = values(server.messages, CHECKPOINT)
    assert found == sorted(found)
    assert found[-1] == 19_999
    assert len(found) < 100


@pytest.mark.slow
@fault(
    (17, "disk full"),
    "a task reports without end while the server does not answer",
    promise="it waits when much has come together; nothing of it is lost",
)
def test_a_task_waits_when_too_much_has_not_been_delivered(shepherd: Shepherd, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = f"for i in range(200):\n controller.report((i, b'x' * 100_000)); open({str(mark)!r}, 'w').write(str(i))"
    server = shepherd.serve((source,), heartbeat=0.5, timeout=3.0)
    server.function = act
    server.stop_when_done = True
    go = tmp_path / "go"
    server.tasks[1] = pickle.dumps(((f"args = {[str(go)]!r}\n{WAIT_FOR}{source}",), {}))
    worker = shepherd.work(server, {"MAX_MESSAGES": 2_000_000})
    until(lambda: server.leased == [1], "it has the task")
    server.status = (507, {})
    go.touch()
    stands = [""]
    until(lambda: mark.exists() and stands.append(mark.read_text()) is None and _still(stands), "it waits")
    assert 15 < int(stands[-1]) < 120
    time.sleep(3.2)  # longer than its timeout: while it is made to wait, that does not run
    server.status = (200, {})
    assert worker.wait(60) == 0, shepherd.log()
    assert [i for i, _ in values(server.messages)] == list(range(200))
    assert server.results() == [None]


def _still(stands: list[str]) -> bool:
    time.sleep(0.1)
    return len(stands) > 8 and stands[-1] != "" and len({*stands[-8:]}) == 1


@pytest.mark.slow
@fault("timeout", "a task hangs though it reports all the time", promise="it is ended after its timeout")
def test_reports_do_not_put_off_the_timeout(shepherd: Shepherd) -> None:
    server = shepherd.serve(("import time\nwhile True: controller.report(0); time.sleep(0.01)",), timeout=1.0)
    server.function = act
    assert shepherd.work(server).wait(60) == 0, shepherd.log()
    assert server.results() == [(TIMEOUT, "the task took longer than its timeout of 1 s and was ended")]
    assert len(server.messages) > 20


@fault(21, "the server refuses a worker that has reports and a checkpoint", promise="they are left in files, too")
def test_messages_are_left_in_the_spool(shepherd: Shepherd, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    source = f"controller.report(1); controller.checkpoint(2); open({str(begun)!r}, 'w'); result = 3"
    server = shepherd.serve((f"args = {[str(tmp_path / 'go')]!r}\n{WAIT_FOR}{source}",), heartbeat=60.0)
    server.function = act
    worker = shepherd.work(server, {"MESSAGE_PAUSE": 100.0, "BATCH_STUCK": 100.0})
    until(lambda: server.leased == [1], "it has the task")
    server.status = (403, {})
    (tmp_path / "go").touch()
    assert worker.wait(60) == 1
    [outcome] = shepherd.spooled().values()
    assert (outcome.kind, pickle.loads(outcome.value)) == (RESULT, 3)
    assert values(shepherd.messages) == [1]
    assert values(shepherd.messages, CHECKPOINT) == [2]


class Travelling:
    """A function that any Python can load."""

    def __reduce__(self) -> Any:
        return eval, ("lambda source, controller: eval(source, {'controller': controller})",)

    def __call__(self) -> None: ...


@pytest.mark.slow
@fault(49, "a compute node with a Python from 3.6 on", promise="tasks report and leave checkpoints there")
def test_it_works_on_this_python(shepherd: Shepherd, each_python: Path) -> None:
    server = shepherd.serve(
        ("controller.report(1) or controller.checkpoint([2]) or controller.restored()",),
        ("controller.restored()",),
        ("controller.report(iter(x for x in ()))",),
    )
    server.function = Travelling()
    server.checkpoints = {2: pickle.dumps("two", 4)}
    assert shepherd.work(server, python=each_python).wait(60) == 0, shepherd.log()
    first, second, (kind, text) = server.results()
    assert (first, second, kind) == ([2], "two", RAISED)
    assert text.startswith("TypeError: the report, a generator, cannot be serialised")
    assert values(server.messages) == [1]
    assert values(server.messages, CHECKPOINT) == [[2]]
