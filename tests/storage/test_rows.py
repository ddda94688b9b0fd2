"""Rows: a request or a task that is not there is an error."""

import pytest

from sheepdog.storage import Storage
from tests.storage.samples import request_of

METHODS_OF_REQUESTS = [
    "get_results",
    "get_tasks_with_results",
    "get_errors",
    "count_results",
    "count_errors",
    "count_results_and_errors",
    "count_tasks",
    "get_request",
    "progress",
    "function_blobs",
    "pending",
    "results",
    "tasks",
    "errors",
    "attempts",
    "workers",
    "events",
]


@pytest.mark.parametrize("unknown", [0, -1, 4711, 2**31, 2**40, 2**63, "1x", None])
def test_an_unknown_request_is_a_value_error(storage: Storage, unknown: int) -> None:
    request_of(storage, 1)
    for method in METHODS_OF_REQUESTS:
        with pytest.raises(ValueError, match="there is no request"):
            list(getattr(storage, method)(unknown))


@pytest.mark.parametrize("unknown", [0, -1, 3, 2**32, 2**32 + 1, 2**70])
def test_an_unknown_task_is_a_value_error(storage: Storage, unknown: int) -> None:
    request_of(storage, 9)
    request = request_of(storage, 2)
    with pytest.raises(ValueError, match="has no task"):
        storage.get_details(request, unknown)
    for store in (storage.store_result, storage.store_error):
        with pytest.raises(ValueError, match="has no task"):
            store(request, unknown, b"x")
        with pytest.raises(ValueError, match="there is no request"):
            store(4711, 1, b"x")
    assert storage.count_results_and_errors(request) == 0
