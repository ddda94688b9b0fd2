"""The array jobs of a request."""

from dataclasses import replace

from sheepdog.storage import Storage
from sheepdog.values.facts import What
from sheepdog.values.model import ArrayJob, Kind, RequestState
from tests.storage.samples import request_of


def test_array_jobs_are_numbered_and_kept(storage: Storage) -> None:
    request, other = request_of(storage, 2), request_of(storage, 1)
    first = storage.new_array(request, ArrayJob(0, "n", "d", 7, urls=("https://a:1",)))
    second = storage.new_array(request, ArrayJob(0, "m", "e", 3, level=2))
    assert (first.number, second.number, storage.new_array(other, first).number) == (1, 2, 1)
    assert storage.arrays(request) == [first, second]
    submitted = replace(first, job="12", directory="/home/x", workers=6)
    assert storage.set_submitted(request, submitted)
    assert storage.get_request(request).state == RequestState.SUBMITTED
    when = storage.get_request(request).submitted
    assert storage.set_submitted(request, replace(second, job="13"))
    assert storage.get_request(request).submitted == when
    storage.set_urls(request, 1, ["https://b:2"])
    storage.end_array(request, 2)
    first, second = storage.arrays(request)
    assert first == replace(submitted, urls=("https://b:2",))
    assert second.job == "13"
    assert second.ended is not None


def test_the_array_job_of_a_request_that_has_ended_is_not_waited_for(storage: Storage) -> None:
    request = request_of(storage, 1)
    array = storage.new_array(request, ArrayJob(0, "n", "d", 1))
    storage.end_pending(request, Kind.CANCELLED, "cancelled")
    assert not storage.set_submitted(request, replace(array, job="12"))
    assert storage.get_request(request).state == RequestState.ENDED


def test_each_array_job_is_told_once_and_only_when_it_is_submitted(storage: Storage) -> None:
    request = request_of(storage, 1)
    array = storage.new_array(request, ArrayJob(0, "name", "directory", 2))
    assert [*storage.events(request)] == []
    for _ in range(2):  # by who submitted it, and by who found it
        storage.set_submitted(request, replace(array, job="4711"))
    second = storage.new_array(request, ArrayJob(0, "name", "directory", 1))
    storage.set_submitted(request, replace(second, job="4712"))
    told = [(event.what, event.text) for event in storage.events(request)]
    assert told == [(What.SUBMITTED, "array job 4711, 2 workers"), (What.SUBMITTED, "array job 4712, 1 worker")]
