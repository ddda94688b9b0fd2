"""What requests leave behind on this machine."""

import os
import time
from pathlib import Path

import pytest

import sheepdog
from sheepdog.deployment.upload import STORE
from sheepdog.front import waiting
from sheepdog.storage import Storage, file
from tests.faults import fault
from tests.local import DB
from tests.waiting import until


def left(place: Path) -> list[str]:
    """The files in the directories of array jobs that are there."""
    jobs = place / "home/.sheepdog"
    return sorted(path.name for path in jobs.rglob("*") if path.is_file() and path.parent.name != STORE)


def kept(place: Path) -> int:
    return len(list((place / "home/.sheepdog" / STORE).iterdir()))


@fault("files left", "requests go well", promise="nothing stays but the archives, once for all of them")
def test_nothing_is_left_of_what_went_well(place: Path) -> None:
    for _ in range(3):
        assert sheepdog.map(pow, [(2, 3), (2, 4)], {"workers": 2}) == [8, 16]
    until(lambda: left(place) == [], "the directories have gone")
    assert kept(place) == 2


@fault("files left", "tasks fail", promise="what tells of it stays until `remove`, or for as long as `keep` says")
@pytest.mark.parametrize("way", ["remove", "age"])
def test_what_tells_of_a_failure_stays_for_a_while(place: Path, way: str) -> None:
    config = {"workers": 2, "keep": "2d"}
    assert sheepdog.map(lambda i: 1 // i, [(0,), (1,)], config) == [None, 1]
    with Storage(DB) as storage:
        until(lambda: not storage.db.execute("SELECT 1 FROM job_directory WHERE state != 1").fetchall(), "it is tidy")
    assert left(place) == ["array_job", "job_id", "keep"]
    if way == "remove":
        sheepdog.remove(1, DB)
        assert left(place) == []
        return
    sheepdog.Server(dbfile=DB).stop()
    for days, stays in ((1.9, True), (2.1, False)):
        then = time.time() - 86400 * days
        for path in [*(place / "home/.sheepdog").glob("sheepdog_001*"), *(place / "home/.sheepdog").glob("*_001_*/*")]:
            os.utime(path, (then, then))
        assert sheepdog.map(pow, [(2, 3)], config) == [8]
        sheepdog.Server(dbfile=DB).stop()  # when it has cleared up
        assert (left(place) != []) == stays
    sheepdog.remove(1, DB)  # nothing is there any more


@fault(
    "files left",
    "a host does not do what it is asked when a request is removed",
    promise="the log says so; the next server of the database sees to it",
)
def test_what_cannot_be_removed_now_is_removed_later(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "CLEARING", 3.0)
    assert sheepdog.map(lambda i: 1 // i, [(0,)], {"workers": 1}) == [None]
    sheepdog.Server(dbfile=DB).stop()
    path, programs = os.environ["PATH"], place / "bin"
    programs.mkdir()
    (programs / "rm").write_text('#!/bin/sh\ncase "$*" in *sheepdog_001*) exit 1;; esac\nexec /bin/rm "$@"\n')
    (programs / "rm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{path}")
    sheepdog.remove(1, DB)
    assert "request 1 is removed, but not what it has left on its host" in caplog.text
    assert left(place) != []
    sheepdog.Server(dbfile=DB).stop()
    monkeypatch.setenv("PATH", path)
    assert sheepdog.map(pow, [(2, 3)], {"workers": 1}) == [8]
    until(lambda: left(place) == [], "nothing is left")


@fault("files left", "a large request is removed", promise="its room is given back to the disk")
@pytest.mark.slow
def test_room_is_given_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MUCH", 5_000_000)
    assert sheepdog.map(len, [(b"small",)]) == [5]
    for _ in range(2):
        assert sheepdog.map(len, [(os.urandom(3_000_000),)] * 2) == [3_000_000] * 2
    sheepdog.remove(2, DB)
    before = os.path.getsize(DB)
    assert before > 10_000_000  # half of it is in use
    sheepdog.remove(3, DB)
    until(lambda: os.path.getsize(DB) < 1_000_000, "it is small again")
    assert os.path.getsize(DB + "-wal") < 1_000_000 if os.path.exists(DB + "-wal") else True
    assert [result for _, result in sheepdog.get_results(1, DB)] == [5]
