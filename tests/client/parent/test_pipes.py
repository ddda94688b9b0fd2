"""The pipes to a child: tokens, and what is larger than a pipe."""

import pickle
import time
from pathlib import Path

from sheepdog.client import RESULT
from tests.client.children import Start, give, outcomes
from tests.waiting import until


def test_tasks_not_started_can_be_recalled(start: Start, tmp_path: Path) -> None:
    child = start()
    go = tmp_path / "go"
    give(child, ("write", str(tmp_path / "here")), ("wait for", str(go)), ("a",), ("b",))
    assert [task for task, _, _ in outcomes(child, 1)] == [1]
    until(lambda: len(child.running) == 3 and (tmp_path / "here").exists(), "the first has run")
    time.sleep(0.05)  # the second begins; if it does not, all three come back, and the test is none
    back = child.recall()
    assert [index for index, _, _ in back] in ([3, 4], [2, 3, 4])
    assert child.recall() == []
    go.touch()
    rest = [2] if len(back) == 2 else []
    assert [task for task, _, _ in outcomes(child, len(rest))] == rest
    give(child, ("c",), first=9)
    assert [task for task, _, _ in outcomes(child, 1)] == [9]


def test_a_recalled_task_is_not_run_however_late_the_child_looks(start: Start, tmp_path: Path) -> None:
    child = start()
    begin, go = tmp_path / "begin", tmp_path / "go"
    give(child, ("wait for", str(begin)), ("slow to take the next", str(go)), ("recalled",), ("recalled",))
    begin.touch()
    assert [task for task, _, _ in outcomes(child, 2)] == [1, 2]
    assert [index for index, _, _ in child.recall()] == [3, 4]
    give(child, ("new",), first=9)
    go.touch()
    assert outcomes(child, 1, seconds=5) == [(9, RESULT, pickle.dumps("new", 4))]


def test_large_values_there_and_back(start: Start) -> None:
    child = start()
    size = 20_000_000
    give(child, ("length", b"x" * size), ("large", size), ("a",))
    first, second, third = outcomes(child, 3)
    assert pickle.loads(first[2]) == size
    assert pickle.loads(second[2]) == b"x" * size
    assert third == (3, RESULT, pickle.dumps("a", 4))
