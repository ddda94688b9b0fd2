"""The name of the backend, where tasks import joblib."""

import subprocess
import sys
from pathlib import Path

import joblib
import pytest

import sheepdog
from sheepdog.client.child.joblib_name import MODULE, Finder, add_name

SOURCE = """
import sys
sys.path.insert(0, sys.argv[1])
from sheepdog.client.child.joblib_name import Finder
sys.meta_path.insert(0, Finder())
import inspect, joblib, joblib.parallel
assert joblib.Parallel(n_jobs=2, backend="sheepdog")(joblib.delayed(abs)(-i) for i in range(3)) == [0, 1, 2]
assert "class Parallel" in inspect.getsource(joblib.parallel)
assert type(joblib.parallel.__loader__) is type(joblib.__loader__)
try:
    joblib.Parallel(n_jobs=2, backend="sheepdog", other=1)([joblib.delayed(abs)(1)])
except TypeError as error:
    print(error)
"""


def test_it_is_known_once_joblib_is_imported() -> None:
    command = [sys.executable, "-c", SOURCE, str(Path(sheepdog.__file__).parent.parent)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said == "the backend sheepdog takes config and workers, but not other\n"


def test_a_joblib_that_has_no_place_for_it_is_left_alone() -> None:
    add_name(object())


def test_nothing_else_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = Finder()
    assert finder.find_spec("joblib") is None
    monkeypatch.setattr(sys, "meta_path", [finder])
    assert finder.find_spec(MODULE, joblib.__path__) is None


@pytest.mark.slow
def test_it_is_known_in_tasks_of_map(place: Path) -> None:
    def within(n_jobs: int) -> list[int]:
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=n_jobs, backend="sheepdog", config={"host": "x"})
        return list(parallel(delayed(abs)(-i) for i in range(3)))

    assert sheepdog.map(within, [(1,), (2,)], {"workers": 1}) == [[0, 1, 2]] * 2
