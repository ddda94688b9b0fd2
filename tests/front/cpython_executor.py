"""CPython's own tests of executors, run on ours: the classes of its package `test` that all executors share.

    python -m tests.front.cpython_executor DIRECTORY CONFIG CLASS...

DIRECTORY holds that package, CONFIG is the executor's configuration as JSON.
"""

import importlib
import json
import sys
import unittest
from typing import Any

import cloudpickle

from sheepdog import Executor

SHARED = ("ExecutorTest", "WaitTests", "AsCompletedTests", "ExecutorShutdownTest")

CANNOT_APPLY = {
    "test_cancel_futures": "a call must have begun the moment it was submitted; here a process is to be started first",
    "test_interpreter_shutdown": "it reads what a task prints, which is the worker's output here",
    "test_hang_gh83386": "it reads what a task prints, too",
    "test_submit_after_interpreter_shutdown": "it imports the executor from concurrent.futures",
    "test_max_workers_negative": "the number of workers is called workers here",
}
"""Of these classes; tests/test_executor.py has tests of ours for what they ask."""


def suite(directory: str, config: dict[str, Any], classes: list[str]) -> unittest.TestSuite:
    """Return the tests of these classes, for an executor with this configuration."""
    package = importlib.import_module("test")
    package.__path__.append(directory)
    shared: Any = importlib.import_module("test.test_concurrent_futures")
    cloudpickle.register_pickle_by_value(shared)  # the workers have no such package

    def make_executor(max_workers: int) -> Executor:
        executor = Executor(config, workers=max_workers)
        if config.get("host"):  # some tests leave the workers five seconds to start, a scheduler may take more
            executor.submit(pow, 1, 1).result()
        return executor

    found = unittest.TestSuite()
    for name in classes:
        parts = (getattr(shared, name), shared.ExecutorMixin, shared.BaseTestCase)
        case = type(name, (parts[0], *parts[1:]), {"executor_type": staticmethod(make_executor)})
        for test in unittest.defaultTestLoader.getTestCaseNames(case):
            if test not in CANNOT_APPLY:
                found.addTest(case(test))
    return found


def passes(tests: unittest.TestSuite) -> bool:
    """Run tests; tell whether all were run, and succeeded."""
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    return result.wasSuccessful() and result.testsRun == tests.countTestCases() and not result.skipped


if __name__ == "__main__":
    sys.exit(not passes(suite(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:])))
