"""An array job's life as the server keeps it, and as another server finds it."""

from dataclasses import replace

import pytest

from sheepdog.server.decide import arrays, clock
from sheepdog.storage import Storage
from sheepdog.values import identity
from sheepdog.values.model import ArrayJob, Kind, RequestState
from sheepdog.values.serialisation import form
from tests.server.decide.farm import Farm, gone_after_work

PLANNED = ArrayJob(0, "n", "d", 3, level=1)


@pytest.fixture
def wanting(farm: Farm) -> Farm:
    """A farm whose workers have ended: others are wanted, and are about to be submitted."""
    farm.exchange("w1", 1, {1: b"r"})
    gone_after_work(farm)
    assert clock.wanted(farm.service)
    assert farm.live.tries.under_way
    return farm


def test_a_planned_one_has_a_number_and_its_workers_a_level(wanting: Farm) -> None:
    array = arrays.plan(wanting.service, wanting.request, PLANNED)
    assert array.number == 2
    assert wanting.live.jobs.levels[2] == 1
    assert 2 not in wanting.live.jobs.there
    assert [each.number for each in wanting.storage.arrays(wanting.request)] == [1, 2]


def test_a_submitted_one_is_there(wanting: Farm) -> None:
    array = replace(arrays.plan(wanting.service, wanting.request, PLANNED), job="job2")
    assert arrays.submitted(wanting.service, wanting.request, array)
    assert not wanting.live.tries.under_way
    assert wanting.live.jobs.there[2].job == "job2"
    wanting.restart()
    assert wanting.live.jobs.there[2].job == "job2"


def test_one_that_comes_too_late_is_not_waited_for(wanting: Farm) -> None:
    """Its request was cancelled meanwhile: whoever submitted it takes it away."""
    array = replace(arrays.plan(wanting.service, wanting.request, PLANNED), job="job2")
    wanting.storage.end_pending(wanting.request, Kind.CANCELLED, "cancelled")
    wanting.service.forget(wanting.request)
    assert not arrays.submitted(wanting.service, wanting.request, array)


@pytest.mark.parametrize("refused", [True, False])
def test_one_that_could_not_be_submitted(wanting: Farm, refused: bool) -> None:
    """It counts as a try if the scheduler refused it."""
    tries = wanting.live.tries
    array = arrays.plan(wanting.service, wanting.request, PLANNED)
    before = tries.fruitless
    arrays.not_submitted(wanting.service, wanting.request, array.number, "the head node is away", refused)
    assert tries.fruitless == before - (not refused)
    assert not tries.may_begin(wanting.now)
    assert tries.may_begin(wanting.now + 60)
    assert wanting.note == "workers cannot be submitted again: the head node is away; trying on"
    assert wanting.storage.arrays(wanting.request)[1].ended is not None


def test_a_submission_that_nobody_saw_to_its_end(wanting: Farm) -> None:
    """This server does it; another one does not know."""
    array = arrays.plan(wanting.service, wanting.request, PLANNED)
    assert arrays.unseen(wanting.service) == []
    wanting.restart()
    wanting.service.find(wanting.request)
    assert [found.number for _, _, found in arrays.unseen(wanting.service)] == [array.number]
    arrays.forget(wanting.service, wanting.request, array.number)
    assert arrays.unseen(wanting.service) == []


def test_addresses_that_have_changed(farm: Farm) -> None:
    [array] = farm.storage.arrays(farm.request)
    arrays.moved(farm.service, farm.request, replace(array, urls=("https://there:2",)))
    assert farm.storage.arrays(farm.request)[0].urls == ("https://there:2",)
    assert farm.live.jobs.there[1].urls == ("https://there:2",)


def test_a_request_that_is_being_submitted_may_be_abandoned(farm: Farm, storage: Storage) -> None:
    """Those of which nobody knows who makes them are left alone."""
    assert arrays.unsubmitted(farm.service) == []
    request = storage.new_request(b"f", b"", [b"x"], form=form(), options={"maker": identity.sign()})
    storage.new_request(b"f", b"", [b"x"], form=form(), options={})
    array = storage.new_array(request, PLANNED)
    [(found, options, noted)] = arrays.unsubmitted(farm.service)
    assert (found.id, options.maker, noted) == (request, identity.sign(), (array,))
    arrays.abandon(farm.service, request)
    assert storage.get_request(request).state == RequestState.ENDED
    [(_, outcome)] = storage.errors(request)
    assert b"ended before it was submitted" in outcome.value


def test_a_submitted_request_is_not_abandoned(farm: Farm) -> None:
    arrays.abandon(farm.service, farm.request)
    assert farm.state == RequestState.SUBMITTED


def test_what_is_left_of_an_ended_request_is_cleared_up_once(farm: Farm) -> None:
    farm.exchange("w1", 10, dict.fromkeys(range(1, 11), b"r"))
    [(request, left, waiting)] = arrays.left_over(farm.service)
    assert (request.id, [array.number for array in left]) == (farm.request, [1])
    assert waiting
    arrays.clear(farm.service, farm.request)
    assert arrays.left_over(farm.service) == []
    assert farm.state == RequestState.CLOSED


def test_what_is_known_of_the_workers_is_not_known_of_those_of_a_retry(farm: Farm) -> None:
    """All had called when the request ended. It is retried before it was cleared up, and cancelled at once."""
    farm.take("w1", 10)
    farm.join("w2")
    farm.exchange("w1", 0, dict.fromkeys(range(1, 11), b"E"), kind=Kind.RAISED)
    [(_, _, waiting)] = arrays.left_over(farm.service)
    assert not waiting
    with Storage(farm.storage.dbfile) as other:
        other.retry(farm.request, {}, failed=True)
        farm.submit(2)
        other.end_pending(farm.request, Kind.CANCELLED, "cancelled")
    [(_, _, waiting)] = arrays.left_over(farm.service)
    assert waiting
