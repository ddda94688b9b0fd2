"""What is this account's own of a database, and how it comes to be."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from sheepdog.errors import NotOwnRequest
from sheepdog.storage import Storage, schema
from sheepdog.values.model import RequestState
from tests.faults import fault
from tests.storage.samples import request_of


def test_a_new_request_in_a_copy_is_the_copy_s_and_the_others_are_not(made: Path) -> None:
    """Nor are port and certificate those of the original, which its workers call and trust."""
    with Storage(shutil.copy(made, made.with_name("copy"))) as storage:
        new = request_of(storage, 1)
        assert storage.requests(*RequestState) == [new]
        storage.require_own(new)
        with pytest.raises(NotOwnRequest, match=r"request 1 was made in another database, of which .*/copy is a copy"):
            storage.require_own(1)
        assert [storage.get_setting(name) for name in ("port", "certificate", "key")] == [None] * 3
    with Storage(made) as storage:
        assert storage.requests(*RequestState) == [1]
        assert storage.get_setting("port") == 4000


def test_taking_over_a_copy_takes_the_original_s_place(made: Path) -> None:
    with Storage(shutil.copy(made, made.with_name("copy"))) as storage:
        token = storage.get_request(1).token
        assert storage.take_over() == 1
        storage.require_own(1)
        assert storage.requests(*RequestState) == [1]
        assert (storage.get_setting("port"), storage.get_request(1).token) == (4000, token)
        home = storage.home
        assert storage.take_over() == 1
        assert storage.home == home


def test_what_others_know_of_what_is_taken_over_opens_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(made.parent / "state"))
    with Storage(made) as storage:
        token = storage.get_request(1).token
        assert storage.take_over() == 1
        storage.require_own(1)
        assert storage.get_request(1).token != token
        assert [storage.get_setting(name) for name in ("port", "certificate", "key")] == [None] * 3


def test_a_database_is_this_account_s_from_the_first_moment(tmp_path: Path) -> None:
    (tmp_path / "db").touch(mode=0o600)
    with Storage(tmp_path / "db") as storage:
        assert storage.fault == ""
    assert os.listdir(tmp_path) == ["db"]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A database of schema 3, with a request: it does not say whose it is."""
    path = tmp_path / "older"
    with sqlite3.connect(path) as db:
        for script in schema.MIGRATIONS[:3]:
            db.executescript(script)
        db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 3")
        db.execute("INSERT INTO request (token, function, namespace, tasks, created) VALUES ('t', 'f', '', 2, 0)")
        db.execute("INSERT INTO setting VALUES ('port', 4000)")
    db.close()
    return path


@fault(54, "a database from before they said whose they are", promise="it goes on if this account has served this file")
def test_an_older_database_that_was_served_here(older: Path) -> None:
    lock = older.with_name("older-server")
    lock.write_text(json.dumps({"pid": 1, "file": older.stat().st_ino}).ljust(4000))
    with Storage(older) as storage:
        assert storage.fault == ""
        storage.require_own(1)
        assert (storage.requests(RequestState.NEW), storage.get_setting("port")) == ([1], 4000)


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"file": 0}', '{"file": 1}', "x"])
def test_an_older_database_of_which_that_is_not_known(older: Path, said: str) -> None:
    older.with_name("older-server").write_text(said)
    with Storage(older) as storage:
        assert storage.fault == "does not say who made it"
        with pytest.raises(NotOwnRequest, match="does not say who made it: what is in it can be read"):
            storage.require_own(1)
        assert storage.count_tasks(1) == 2
        assert storage.take_over() == 1
        storage.require_own(1)
