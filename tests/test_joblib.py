"""joblib's and scikit-learn's parallel calls, with real workers of this machine."""

import contextlib
import gc
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import joblib
import pytest

import sheepdog.joblib
from sheepdog.errors import ConfigError, SerialisationError, TaskFailed
from sheepdog.storage import Storage
from sheepdog.values import serialisation
from sheepdog.values.model import RequestState
from tests.local import DB, workers_of
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")


def cluster(workers: int | None = 2, **config: object) -> Any:
    return joblib.parallel_config("sheepdog", config=config, workers=workers)


def calls(f: Any, args: Any, **options: Any) -> Any:
    return joblib.Parallel(**options)(joblib.delayed(f)(arg) for arg in args)


def requests(*states: RequestState) -> int:
    with Storage(DB) as storage:
        return len(storage.requests(*states))


def where(_: int) -> int:
    import os

    return os.getppid()  # a worker's child


def nested(count: int) -> list[int]:
    import os
    import threading

    import joblib

    name = type(joblib.parallel.get_active_backend()[0]).__name__
    inner = joblib.Parallel(n_jobs=-1)
    found = inner(joblib.delayed(lambda: (os.getpid(), threading.get_ident()))() for _ in range(count))
    return [name, len({pid for pid, _ in found}), inner._effective_n_jobs()]


# --- calls


def test_calls_run_on_the_workers(place: Path) -> None:
    with cluster():
        assert calls(abs, range(-300, 0)) == list(range(300, 0, -1))
        assert set(calls(where, range(50))) <= set(workers_of(place))
        assert requests(*RequestState) == 1  # the workers stay from call to call
    until(lambda: requests(RequestState.CLOSED) == 1, "they end with the context")


def test_the_older_context() -> None:
    with joblib.parallel_backend("sheepdog", config={"workers": 2}):
        assert calls(abs, [-1, -2]) == [1, 2]


def test_by_name_alone() -> None:
    assert calls(abs, [-1, -2], n_jobs=2, backend="sheepdog") == [1, 2]
    with Storage(DB) as storage:
        assert storage.arrays(1)[0].workers == 2


def test_one_worker_is_not_this_process() -> None:
    """n_jobs=1 is, as ever with joblib."""
    with cluster(workers=1):
        assert os.getpid() not in calls(where, range(3))
        assert set(calls(where, range(3), n_jobs=1)) == {os.getppid()}


@pytest.mark.parametrize(
    ("workers", "n_jobs", "effective"), [(4, -1, 4), (4, None, 4), (4, -2, 3), (4, 3, 3), (4, 1, 1), (1, -1, 2)]
)
def test_how_many_jobs(workers: int, n_jobs: int | None, effective: int) -> None:
    with cluster(workers):
        assert joblib.Parallel(n_jobs=n_jobs)._effective_n_jobs() == effective


def test_as_many_workers_as_a_cluster_of_this_machine_has() -> None:
    with cluster(None, scheduler="local"):
        assert joblib.effective_n_jobs(-1) == max(2, len(os.sched_getaffinity(0)))
        with pytest.raises(ValueError, match="n_jobs is 0"):
            joblib.effective_n_jobs(0)


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_results_as_they_come(return_as: str) -> None:
    with cluster():
        assert sorted(calls(abs, range(-20, 0), return_as=return_as)) == list(range(1, 21))


def test_a_pool_that_is_kept() -> None:
    with cluster(), joblib.Parallel() as parallel:
        for _ in range(3):
            assert parallel(joblib.delayed(abs)(n) for n in range(-9, 0)) == list(range(9, 0, -1))
    assert requests(*RequestState) == 1


@pytest.mark.parametrize(("cpus", "backend"), [(1, "SequentialBackend"), (2, "ThreadingBackend")])
def test_calls_within_calls_stay_in_their_worker(cpus: int, backend: str) -> None:
    """With several cores they are threads, no more than the worker has cores, or the node has."""
    with cluster(cpus=cpus):
        assert calls(nested, [5]) == [[backend, 1, min(cpus, len(os.sched_getaffinity(0)))]]


@pytest.mark.parametrize(("options", "found"), [({"config": {"host": "x"}}, "[1]"), ({"bogus": 1}, "takes config and")])
def test_the_backend_s_options_within_a_call(options: dict[str, Any], found: str) -> None:
    def within(options: dict[str, Any]) -> str:
        try:
            return str(joblib.Parallel(n_jobs=2, backend="sheepdog", **options)([joblib.delayed(abs)(-1)]))
        except TypeError as error:
            return str(error)

    with cluster():
        assert found in calls(within, [options])[0]


# --- what goes wrong


def test_an_error_ends_the_call_and_the_workers() -> None:
    with cluster():
        with pytest.raises((ZeroDivisionError, TaskFailed), match="division by zero"):
            calls(lambda x: 1 / x, range(-2, 300))
        until(lambda: requests(RequestState.CLOSED) == 1, "the workers have ended")
        assert calls(abs, [-1]) == [1]  # on others


def test_what_cannot_be_sent_is_an_error() -> None:
    """Also when others have been sent."""
    args = (threading.Lock() if n == 200 else n for n in range(300))
    with cluster(), pytest.raises(SerialisationError, match="cannot be serialised"):
        calls(str, args)


def test_an_error_in_a_pool_that_is_kept() -> None:
    with cluster(), joblib.Parallel() as parallel:
        with pytest.raises((ZeroDivisionError, TaskFailed), match="division by zero"):
            parallel(joblib.delayed(lambda x: 1 / x)(n) for n in range(3))
        assert parallel(joblib.delayed(abs)(n) for n in [-1]) == [1]
    assert requests(*RequestState) == 1
    del parallel
    gc.collect()  # the error's traceback holds it
    until(lambda: requests(RequestState.CLOSED) == 1, "the workers have ended")


def test_timeout(place: Path) -> None:
    with cluster():
        assert calls(abs, [-1]) == [1]  # the workers are there
        with pytest.raises(multiprocessing.TimeoutError):
            calls(time.sleep, [0, 300, 300], timeout=0.5)
        until(lambda: not workers_of(place), "what runs is stopped")


def test_a_generator_that_is_dropped(place: Path) -> None:
    with cluster():
        results = calls(time.sleep, [0, 300, 300, 300], return_as="generator")
        assert next(results) is None
        with pytest.warns(UserWarning, match="3 tasks .* have been cancelled"):
            del results
    until(lambda: not workers_of(place), "what runs is stopped")


def test_a_function_travels_once(place: Path) -> None:
    large = os.urandom(5_000_000)
    with cluster():
        assert calls(lambda i: len(large) + i, range(20), batch_size=2) == [5_000_000 + i for i in range(20)]
        mixed = [joblib.delayed(abs)(-1), joblib.delayed(len)(b"ab")]
        assert joblib.Parallel(batch_size=2)(mixed) == [1, 2]
    assert sum(Path(DB + end).stat().st_size for end in ("", "-wal")) < 20_000_000


def test_a_call_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialisation, "MAX_VALUE", 100_000)
    with cluster():
        with pytest.raises(SerialisationError, match="at most 100,000 can be stored"):
            calls(len, [b"", bytes(100_000)], batch_size=1)
        assert calls(abs, [-1, -2]) == [1, 2]


def within(backend: str, n_jobs: int | None) -> tuple[list[int], int]:
    import os

    import joblib

    options = {} if n_jobs is None else {"n_jobs": n_jobs}
    found = joblib.Parallel(backend=backend, **options)(joblib.delayed(abs)(-i) for i in range(4))
    with joblib.parallel_config(backend, config={"workers": 3}):
        found += joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(4))
    return found, os.getppid()


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_calls_within_calls_by_name(place: Path, n_jobs: int | None) -> None:
    """As with loky: the backend's name is known where the calls run, and they are no calls of the cluster there."""
    with cluster(2):
        found = joblib.Parallel()(joblib.delayed(within)("sheepdog", n_jobs) for _ in range(3))
        assert [results for results, _ in found] == [[0, 1, 2, 3] * 2] * 3
        assert {worker for _, worker in found} <= set(workers_of(place))
    assert requests(*RequestState) == 1


def test_calls_within_calls_where_sheepdog_is_there(place: Path) -> None:
    """They do not go to the cluster again."""

    def inner() -> list[int]:
        import sys

        import joblib

        sys.path.insert(0, source)
        import sheepdog.joblib  # noqa: F401

        return list(joblib.Parallel(n_jobs=2, backend="sheepdog")(joblib.delayed(abs)(-i) for i in range(4)))

    source = str(Path(sheepdog.__file__).parent.parent)
    with cluster(2):
        assert joblib.Parallel()(joblib.delayed(inner)() for _ in range(2)) == [[0, 1, 2, 3]] * 2
    assert requests(*RequestState) == 1


def test_options_of_parallel_itself() -> None:
    options = {"backend": "sheepdog", "config": {"name": "goat", "workers": 3}}
    assert calls(abs, [-1, -2], n_jobs=2, **options) == [1, 2]
    with Storage(DB) as storage:
        assert (storage.get_request(1).name, storage.arrays(1)[0].workers) == ("goat", 3)
    assert calls(abs, [-1, -2], n_jobs=2, workers=4, backend="sheepdog") == [1, 2]
    with Storage(DB) as storage:
        assert storage.arrays(2)[0].workers == 4
    with joblib.Parallel(n_jobs=2, **options) as parallel:
        for _ in range(2):
            assert parallel(joblib.delayed(abs)(arg) for arg in [-1, -2]) == [1, 2]
    assert requests(*RequestState) == 3


def test_options_of_parallel_that_cannot_be_heeded() -> None:
    with pytest.raises(ConfigError, match="wokers"):
        calls(abs, [-1, -2], n_jobs=2, backend="sheepdog", config={"wokers": 3})
    with pytest.raises(TypeError, match="takes config and workers, but not wokers"):
        calls(abs, [-1, -2], n_jobs=2, backend="sheepdog", wokers=3)
    with cluster(2):
        assert calls(abs, [-1, -2]) == [1, 2]
        with pytest.raises(ConfigError, match="the workers of this context are there already"):
            calls(abs, [-1, -2], config={"name": "goat"})
        with pytest.raises(ConfigError, match="the workers of this context are there already"):
            calls(abs, [-1, -2], workers=5)
        assert calls(abs, [-1, -2], workers=2) == [1, 2]


def test_a_wrong_option() -> None:
    with pytest.raises(ConfigError, match="worker"), cluster(wokers=2):
        pass
    with pytest.raises(TypeError, match="nosuch"), joblib.parallel_config("sheepdog", nosuch=2):
        pass


# --- scikit-learn


def test_a_cross_validation_gives_the_same_numbers() -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = load_diabetes(return_X_y=True)
    forest = RandomForestRegressor(n_estimators=5, random_state=1)
    found: list[list[float]] = []
    for context in (contextlib.nullcontext(), cluster()):
        with context:
            scores = [*cross_val_score(forest, x, y, cv=4)]
            search = GridSearchCV(forest, {"max_depth": [2, 4]}, cv=3).fit(x, y)
            found.append([*scores, *search.cv_results_["mean_test_score"]])
    assert found[0] == found[1]
