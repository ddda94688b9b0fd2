"""What is taken away when a request has ended."""

import os

import pytest

from sheepdog.deployment.job_directory import MARK
from sheepdog.errors import HostError
from sheepdog.server.scheduling.clearing import CLEAR_JOBS_TRIES, GONE_TRIES, LEAVING, SELDOM_MOST, SUBMITTING
from sheepdog.values.model import ArrayJob, JobStatus, Kind, Outcome, RequestState
from tests.faults import fault
from tests.server.scheduling.fakes import INTERVAL, FakeScheduler, Farm

# What it clears up


@pytest.mark.parametrize(("elements", "cancelled"), [("11", ["7"]), ("12", [])])
def test_elements_that_never_started_are_taken_away(farm: Farm, elements: str, cancelled: list[str]) -> None:
    request = farm.request("7")
    fake = farm.put(request, FakeScheduler())
    farm.look()
    farm.finish(request, elements)
    for _ in range(2):
        farm.look()
    assert fake.cancelled == cancelled
    assert farm.state(request) == RequestState.CLOSED


@fault(
    "silence",
    "a job that the scheduler said was gone, and that was not",
    promise="it is deleted with its request: it is looked for by its name",
)
def test_a_job_that_is_thought_to_have_ended_is_taken_away_too(farm: Farm) -> None:
    request = farm.request("7")
    fake = farm.put(request, FakeScheduler())
    fake.answers = {"7": JobStatus(reason="it says")}
    for _ in range(3):
        farm.look(INTERVAL)
    assert farm.errors(request)
    farm.look()
    assert fake.cancelled == ["7"]
    assert farm.state(request) == RequestState.CLOSED


def fail(farm: Farm, request: int) -> None:
    """Have all tasks of a request end with an error."""
    farm.storage.store_outcomes(request, [Outcome(task=task, kind=Kind.RAISED, value=b"Error") for task in (1, 2)])


@fault(51, "a secret lies on the cluster", promise="it goes when its request has ended; what the workers said stays")
@fault("files left", "tasks of a request fail", promise="what its workers said stays, and nothing else")
def test_the_secret_goes_and_the_workers_words_stay(farm: Farm) -> None:
    request = farm.request("7")
    fake = farm.put(request, FakeScheduler())
    for name in ("client.pyz", "submit.sh", "herd.o7.2"):
        (farm.directory(request) / name).touch()
    (farm.directory(request) / "herd.o7.1").write_text("words")
    fail(farm, request)
    farm.look()
    assert farm.state(request) == RequestState.CLOSED
    names = ["client.pyz", "herd.o7.1", "herd.o7.2", "submit.sh"]
    assert sorted(file.name for file in farm.directory(request).iterdir()) == [MARK, *names]
    fake.gone.add(farm.directory(request).name)
    farm.look(LEAVING)
    assert sorted(file.name for file in farm.directory(request).iterdir()) == [MARK, "herd.o7.1"]
    farm.storage.remove_request(request, cleared=False)
    directory = farm.home / ".sheepdog"
    farm.look()
    assert [path.name for path in directory.iterdir()] == []


@fault(
    "files left",
    "all tasks of a request have results",
    promise="its directory goes when the scheduler has nothing of its array job any more",
)
def test_a_directory_goes_when_its_array_job_has_gone(farm: Farm) -> None:
    request = farm.request("7")
    fake = farm.put(request, FakeScheduler())
    farm.finish(request, "12")
    farm.look()
    assert farm.state(request) == RequestState.CLOSED
    assert fake.cancelled == []
    farm.look(LEAVING)
    assert fake.cancelled == ["7"]  # it is there still, though it should have ended by itself
    assert farm.directory(request).exists()
    fake.gone.add(farm.directory(request).name)
    farm.look(1)
    assert not farm.directory(request).exists()
    assert farm.storage.left_directories() == []


@fault(
    "files left",
    "a head node does not answer while a directory is to be removed",
    promise="it is removed later, by another server if need be",
)
@pytest.mark.parametrize("why", ["silence", "the job stays"])
def test_a_directory_that_cannot_go_yet_is_left_to_the_next_server(farm: Farm, why: str) -> None:
    request = farm.request("7")
    fake = farm.put(request, FakeScheduler())
    farm.finish(request)
    name = farm.directory(request).name
    farm.look()
    fake.error = HostError("does not answer") if why == "silence" else None
    farm.storage.remove_request(request, cleared=False)
    for _ in range(GONE_TRIES):
        farm.look(1000)
    assert farm.put_off() == {name}
    assert (farm.home / ".sheepdog" / name).exists()
    fake.error = None
    fake.gone.add(name)
    asked = fake.runs
    farm.look(1000)
    assert fake.runs == asked
    following = Farm(farm.storage, farm.home)
    following.heads = farm.heads
    following.look()
    assert not (farm.home / ".sheepdog" / name).exists()
    assert farm.storage.left_directories() == []


def test_what_is_too_old_goes_now_and_then(farm: Farm) -> None:
    old = farm.home / ".sheepdog" / "wolf_001_00000001"

    def make_old() -> None:
        old.mkdir(parents=True)
        (old / MARK).write_text(f"{old.name}\n")
        for path in (old / MARK, old):
            os.utime(path, (1e9, 1e9))

    for first, stays in ((True, False), (False, True)):
        make_old()
        request = farm.request("7")
        if first:
            farm.put(request, FakeScheduler())
        farm.finish(request)
        farm.look()
        assert old.exists() == stays
    farm.finish(farm.request("7"))
    farm.look(SELDOM_MOST)
    assert not old.exists()


def test_a_request_that_ended_before_it_was_noticed_is_cleared_up_too(farm: Farm) -> None:
    request = farm.request("7")
    fake = farm.put(request, FakeScheduler())
    farm.finish(request)
    farm.look()
    assert fake.cancelled == ["7"]
    assert fake.asked == []


@fault("cancel", "the user cancels a request", promise="its array job is deleted")
def test_the_array_job_of_a_cancelled_request_is_deleted(farm: Farm) -> None:
    request = farm.request("7")
    fake = farm.put(request, FakeScheduler())
    farm.call(request, "w1", "1")
    farm.call(request, "w2", "2")
    assert farm.storage.end_pending(request, Kind.CANCELLED, "cancelled by its user") == 2
    farm.look()
    assert fake.cancelled == ["7"]
    assert farm.state(request) == RequestState.CLOSED


def test_what_is_left_of_local_workers_is_removed_unless_it_tells_why(farm: Farm) -> None:
    done, lost = farm.request("7", scheduler="local"), farm.request("8", scheduler="local")
    fake = farm.put(done, FakeScheduler(1.0))
    fake.name = "local"
    fake.gone |= {farm.directory(done).name, farm.directory(lost).name}
    farm.finish(done)
    farm.look()
    assert not farm.directory(done).exists()
    fake.answers["8"] = JobStatus(reason="its processes ended")
    for _ in range(3):
        farm.look(1)
    assert "its processes ended" in farm.errors(lost)[0]
    assert farm.directory(lost).exists()
    assert [file.name for file in farm.directory(lost).iterdir()] == [MARK]


@fault(
    "other people",
    "the store names directories that are not those of its array jobs",
    promise="only what lies in ssh_dir under an array job's name, with our mark of that name, is removed",
)
@pytest.mark.parametrize("name", ["precious", "..", ".", "", "herd_001_0badcafe/../../precious", "herd_001_0badcafe"])
def test_no_other_directory_is_removed(farm: Farm, name: str) -> None:
    precious = [farm.home / "precious", farm.home / ".sheepdog" / "herd_001_0badcafe"]
    for directory in precious:
        directory.mkdir(parents=True)
        (directory / "data.csv").write_text("data")
        (directory / "secret.json").write_text("mine, too")
    request = farm.request("", scheduler="local")
    farm.put(request, FakeScheduler(1.0)).name = "local"
    farm.storage.new_array(request, ArrayJob(0, name, str(precious[0]), 1))
    farm.finish(request)
    farm.look()
    assert farm.state(request) == RequestState.CLOSED
    assert [(directory / "data.csv").read_text() for directory in precious] == ["data", "data"]
    assert (precious[0] / "secret.json").exists()


def test_what_cannot_be_cleared_up_is_tried_again_and_does_not_stand_in_the_way(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = farm.request("1", host="first"), farm.request("2", host="second")
    broken, sound = farm.put(first, FakeScheduler()), farm.put(second, FakeScheduler())
    broken.error = HostError("does not answer")
    for request in (first, second):
        farm.finish(request)
    farm.look()
    assert sound.cancelled == ["2"]
    farm.look()  # not again at once
    assert farm.watcher(first).clearing.tries[first][0] == 1
    broken.error = None
    farm.look(10)
    assert broken.cancelled == ["1"]
    assert "stays" not in caplog.text
    assert farm.state(first) == RequestState.CLOSED


def test_what_can_never_be_cleared_up_is_left_in_the_end(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    request = farm.request("1")
    farm.put(request, FakeScheduler()).error = HostError("does not answer")
    farm.finish(request)
    for _ in range(CLEAR_JOBS_TRIES):
        assert farm.state(request) == RequestState.ENDED
        farm.look(1000)
    assert farm.state(request) == RequestState.CLOSED
    assert "what is left of its array job stays: does not answer" in caplog.text


def test_a_directory_stays_while_its_submission_may_not_have_returned(farm: Farm) -> None:
    """Where qsub returns with the job, all tasks may have ended before anybody knows its id."""
    request = farm.request("")
    name = "herd_001_0badcafe"
    fake = farm.put(request, FakeScheduler())
    fake.gone.add(name)
    directory = farm.home / ".sheepdog" / name
    directory.mkdir(parents=True)
    (directory / MARK).write_text(f"{name}\n")
    farm.storage.new_array(request, ArrayJob(0, name, f".sheepdog/{name}", 1))
    farm.finish(request)
    farm.look()
    farm.look(LEAVING)
    assert directory.exists()
    farm.look(SUBMITTING)
    assert not directory.exists()
