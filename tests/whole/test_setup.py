"""What is set up for the tasks: lines of shell, variables, thread pools."""

import os
from pathlib import Path
from typing import Any

import joblib
import pytest

import sheepdog
import sheepdog.joblib
from sheepdog.client.threads import POOLS
from tests.local import DB

LOCAL: dict[str, Any] = {"scheduler": "local", "workers": 2}


def variables(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@pytest.fixture(autouse=True)
def no_sizes_here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POOLS:
        monkeypatch.delenv(name, raising=False)


def test_lines_and_variables_reach_the_tasks() -> None:
    config = {**LOCAL, "setup": ["export LOADED='by a line'"], "env": {"GIVEN": "for 'tasks'", "SIZE": 4}}
    assert sheepdog.map(variables, [("LOADED", "GIVEN", "SIZE")], config) == [["by a line", "for 'tasks'", "4"]]
    assert "GIVEN" not in os.environ


def test_a_line_that_fails_is_the_reason() -> None:
    config = {**LOCAL, "setup": ["module load nothing-of-the-kind"], "resubmissions": 0}
    request_id = sheepdog.map_async(abs, [(1,)], config)
    with pytest.raises(sheepdog.NotRun, match="this line of setup failed: module load nothing-of-the-kind") as caught:
        sheepdog.get_results(request_id, DB)
    assert "a Python there" not in str(caught.value)  # that is not asked where the reason is known


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["1", "1"]),
        ({"cpus": 3, "workers": 1}, ["3", "3"]),
        ({"env": {"OMP_NUM_THREADS": 2}}, ["2", "1"]),
        ({"setup": ["export OMP_NUM_THREADS=6"]}, ["6", "1"]),
    ],
)
def test_thread_pools_are_as_large_as_a_worker(config: dict[str, Any], expected: list[str]) -> None:
    found = sheepdog.map(variables, [("OMP_NUM_THREADS", "NUMEXPR_NUM_THREADS")], {**LOCAL, **config})
    assert found == [expected]


def test_what_joblib_says_of_threads_holds() -> None:
    with joblib.parallel_config("sheepdog", config=LOCAL, workers=2, inner_max_num_threads=5):
        found = joblib.Parallel()(joblib.delayed(variables)("MKL_NUM_THREADS", "OMP_NUM_THREADS") for _ in range(3))
    assert found == [["5", "5"]] * 3
