"""joblib.Parallel on the cluster, and so scikit-learn's n_jobs. To import this registers the backend "sheepdog".

import joblib, sheepdog.joblib
with joblib.parallel_config("sheepdog", config={"host": "fear"}, workers=50):
    cross_val_score(model, X, y)
"""

from __future__ import annotations

import copy
import inspect
import os
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    Parallel,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)

from .client.threads import pool_sizes
from .config import Config, make_config
from .errors import ConfigError
from .front.dispatch import standing_workers
from .front.executor import Executor

KNOWN = {*inspect.signature(Parallel.__init__).parameters, "context"}  # what joblib gives to all backends


class ClusterBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """The backend. config and workers are an Executor's; without workers there are n_jobs of them.

    Its workers serve all calls within one parallel_config, and end with it.
    """

    supports_retrieve_callback = True  # and so timeout, and return_as="generator"
    supports_inner_max_num_threads = True
    inner_max_num_threads: int | None = None  # joblib sets it
    default_n_jobs = -1  # for whoever chooses this backend and says no number

    def __init__(
        self,
        config: Mapping[str, Any] | str | Config | None = None,
        workers: int | None = None,
        nesting_level: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level)
        self.settings = make_config(config)
        self.workers = workers or self.settings.workers
        self.executor: Executor | None = None
        self.under_way: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many jobs run at once; a negative number counts down from all workers, -1.

        1 means here, in this process. So of a single worker this says 2: one job runs, and another waits for it.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs is 0; it must be a number of workers, or -1 for all of them")
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        if self.workers is None:
            self.workers = standing_workers(self.settings)
        return max(2, self.workers + 1 + (n_jobs or -1))

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        config: Mapping[str, Any] | str | Config | None = None,
        workers: int | None = None,
        **others: Any,
    ) -> int:
        """Make ready for a call; return how many jobs run at once. config and workers are those of Parallel itself.

        Raises ConfigError if there are workers already that were submitted otherwise.
        """
        if unknown := others.keys() - KNOWN:
            raise TypeError(f"the backend sheepdog takes config and workers, but not {', '.join(sorted(unknown))}")
        if config is not None or workers is not None:
            self._take(self.settings if config is None else make_config(config), workers)
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if "SHEEPDOG_REQUEST_ID" in os.environ:  # this is a worker
            raise FallbackToBackend(ThreadingBackend(nesting_level=self.nesting_level))
        self.parallel = weakref.proxy(parallel)  # no cycle: the workers end when nobody has this backend any more
        if self.executor is None:
            self.executor = Executor(self._settings_of_workers(), self.workers or n_jobs)
        return n_jobs

    def _settings_of_workers(self) -> Config:
        if self.inner_max_num_threads is None:
            return self.settings
        env = {**dict(self.settings.env), **pool_sizes(self.inner_max_num_threads)}
        return replace(self.settings, env=tuple(env.items()))

    def _take(self, settings: Config, workers: int | None) -> None:
        """Take the config and workers of a call."""
        workers = workers or settings.workers
        if self.executor is not None and (settings != self.settings or workers not in (None, self.workers)):
            raise ConfigError(
                "the workers of this context are there already: give config and workers to joblib.parallel_config, "
                "or to Parallel outside of it, with backend='sheepdog'"
            )
        self.settings, self.workers = settings, workers or self.workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Run a batch of calls on a worker; call back with the future. What cannot be sent is its exception."""
        assert self.executor is not None
        try:
            future = self.executor.submit(*parted(func, self.settings.cpus or 1))
        except Exception as error:  # joblib calls this in callbacks, too, where nobody would hear of it
            future = Future()
            future.set_exception(error)
        self.under_way.add(future)
        future.add_done_callback(self.under_way.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return what a batch returned, or raise what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Take back what is under way. Unless there is more to come in this call, the workers end, too."""
        for future in self.under_way.copy():
            future.cancel()
        if self.executor is not None and not ensure_ready:
            self.executor.shutdown(wait=False)
            self.executor = None

    def terminate(self) -> None:
        """End a call. The workers stay for the next one."""
        self.reset_batch_stats()

    def get_nested_backend(self) -> tuple[Any, int | None]:
        """Return what calls within calls use: threads, if a worker has several cores."""
        if (self.settings.cpus or 1) > 1:
            nested: tuple[Any, int | None] = super().get_nested_backend()
            return nested
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


def parted(batch: Any, cpus: int) -> tuple[Callable[[Any], Any], Any]:
    """Return what runs a batch on a worker, and the batch: without its function, if that is one, which travels once."""
    functions = [function for function, _, _ in batch.items]
    if any(function is not functions[0] for function in functions):
        return limited(cpus), batch
    bare = copy.copy(batch)
    bare.items = [(None, args, kwargs) for _, args, kwargs in batch.items]
    return limited(cpus, functions[0]), bare


def limited(cpus: int, function: Any = None) -> Callable[[Any], Any]:
    """Return what runs a batch on a worker: to n_jobs=-1 there, the node has as many cores as are the worker's own."""

    def run(batch: Any) -> Any:  # a function in a function travels by value: Sheepdog is not over there
        import os

        os.environ["LOKY_MAX_CPU_COUNT"] = str(cpus)
        if function is not None:
            batch.items = [(function, args, kwargs) for _, args, kwargs in batch.items]
        return batch()

    return run


register_parallel_backend("sheepdog", ClusterBackend)
