"""The directories of array jobs on their hosts."""

import pytest

from sheepdog.storage import Storage
from sheepdog.values.directories import DirectoryState, LeftDirectory
from sheepdog.values.model import ArrayJob

OPTIONS = {"host": "fear"}


def submitted(storage: Storage, name: str, job: str = "7", request: int = 0) -> int:
    request = request or storage.new_request(b"f", b"", [b"1"], options=OPTIONS)
    array = storage.new_array(request, ArrayJob(0, name, f".sheepdog/{name}", 1))
    storage.set_submitted(request, ArrayJob(array.number, name, f"/home/{name}", 1, job=job))
    return request


def test_a_directory_is_left_when_its_request_says_so(storage: Storage) -> None:
    request = submitted(storage, "herd_001_00000001")
    assert storage.left_directories() == []
    storage.leave_directories(request, False)
    left = LeftDirectory("herd_001_00000001", "7", OPTIONS, DirectoryState.TO_TIDY, False)
    assert storage.left_directories() == storage.left_directories(request) == [left]
    assert storage.left_directories(4711) == []
    storage.settle_directory(left)
    assert storage.left_directories() == []
    storage.leave_directories(request, False)  # it is tidy
    assert storage.left_directories() == []


def test_the_directories_of_a_request_stay_known_when_it_is_removed(storage: Storage) -> None:
    request, other = submitted(storage, "herd_001_00000001"), submitted(storage, "herd_002_00000002", "8")
    storage.leave_directories(request, False)
    [tidy] = storage.left_directories()
    storage.remove_request(request, cleared=False)
    left = LeftDirectory("herd_001_00000001", "7", OPTIONS, DirectoryState.TO_REMOVE, True)
    assert storage.left_directories() == [left]
    storage.settle_directory(tidy)  # by a server that has looked before
    assert storage.left_directories() == [left]
    storage.settle_directory(left)
    storage.remove_request(other)  # of this one, nothing is left
    assert storage.db.execute("SELECT count(*) FROM job_directory").fetchone() == (0,)


def test_a_request_that_is_run_again_has_several(storage: Storage) -> None:
    request = submitted(storage, "herd_001_00000001")
    storage.leave_directories(request, False)
    storage.settle_directory(*storage.left_directories())
    submitted(storage, "herd_001_00000002", "8", request)
    storage.leave_directories(request, True)
    assert [(left.job, left.state) for left in storage.left_directories()] == [
        ("7", DirectoryState.TO_REMOVE),
        ("8", DirectoryState.TO_REMOVE),
    ]


@pytest.mark.parametrize("state", DirectoryState)
def test_those_of_another_database_are_nobodys_business(storage: Storage, state: DirectoryState) -> None:
    submitted(storage, "herd_001_00000001")
    storage.db.execute("UPDATE job_directory SET home = 'elsewhere', state = ?", (state,))
    assert storage.left_directories() == []


def test_taking_over_a_copy_takes_its_directories(storage: Storage) -> None:
    storage.leave_directories(submitted(storage, "herd_001_00000001"), True)
    storage.db.execute("UPDATE job_directory SET home = 'of the original'")
    assert storage.left_directories() == []
    storage.take_over()
    assert [left.name for left in storage.left_directories()] == ["herd_001_00000001"]
