"""The methods that Sheepdog 0.2 documents."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheepdog.storage import Storage
from sheepdog.values.model import Kind, Outcome, Progress, State
from tests.storage.samples import request_of


def test_the_details_of_a_task_are_those_of_the_request(storage: Storage) -> None:
    request = storage.new_request(b"function", b"namespace", [b"one", b"two"])
    assert storage.get_details(request, 1) == (b"function", b"namespace", b"one")
    assert storage.get_details(request, 2) == (b"function", b"namespace", b"two")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(function=st.binary(), namespace=st.binary(), args=st.lists(st.binary(max_size=9), min_size=1), data=st.data())
def test_any_bytes_come_back_as_they_were(
    storage: Storage, function: bytes, namespace: bytes, args: list[bytes], data: st.DataObject
) -> None:
    request = storage.new_request(function, namespace, args)
    assert [storage.get_details(request, index) for index in range(1, len(args) + 1)] == [
        (function, namespace, each) for each in args
    ]
    values = data.draw(st.lists(st.binary(), min_size=len(args), max_size=len(args)))
    kinds = data.draw(st.lists(st.sampled_from(Kind), min_size=len(args), max_size=len(args)))
    outcomes = [
        Outcome(task=index, kind=kind, value=value)
        for index, (kind, value) in enumerate(zip(kinds, values, strict=True), 1)
    ]
    assert storage.store_outcomes(request, outcomes) == []
    ended = list(zip(args, values, kinds, strict=True))
    assert storage.get_results(request) == [(a, v) for a, v, kind in ended if kind == Kind.RESULT]
    assert storage.get_errors(request) == [(a, v) for a, v, kind in ended if kind != Kind.RESULT]
    assert list(storage.tasks(request)) == [(index, a, kind, v) for index, (a, v, kind) in enumerate(ended, 1)]
    count = {state: sum(1 for kind in kinds if kind.state == state) for state in State}
    progress = storage.progress(request)
    assert (progress.done, progress.failed) == (count[State.DONE], count[State.FAILED])
    assert progress.cancelled == count[State.CANCELLED]


def test_results_come_in_order_with_gaps_or_without(storage: Storage) -> None:
    request = request_of(storage, 4)
    storage.store_result(request, 3, b"three")
    storage.store_result(request, 1, b"one")
    storage.store_error(request, 2, b"broken")
    assert storage.get_results(request) == [(b"args 1", b"one"), (b"args 3", b"three")]
    assert storage.get_tasks_with_results(request) == [
        (b"args 1", b"one"),
        (b"args 2", None),
        (b"args 3", b"three"),
        (b"args 4", None),
    ]
    assert storage.get_errors(request) == [(b"args 2", b"broken")]
    assert list(storage.results(request)) == [(1, b"one"), (3, b"three")]
    assert storage.pending(request) == [(4, 4)]


def test_counts(storage: Storage) -> None:
    request = request_of(storage, 5)
    storage.store_result(request, 1, b"")
    storage.store_result(request, 2, b"")
    storage.store_error(request, 5, "an error may be text")
    assert storage.count_results(request) == 2
    assert storage.count_errors(request) == 1
    assert storage.count_results_and_errors(request) == 3
    assert storage.count_tasks(request) == 5
    assert storage.progress(request) == Progress(5, 2, 1)
