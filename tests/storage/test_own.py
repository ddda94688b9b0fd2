"""What is this account's own of a database, and how it comes to be."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from sheepdog.errors import NotOwnRequest
from sheepdog.storage import Storage, schema
from sheepdog.values.files import Function
from sheepdog.values.model import Kind, RequestState
from tests.faults import fault
from tests.storage.samples import request_of


def test_a_new_request_in_a_copy_is_the_copy_s_and_the_others_are_not(made: Path) -> None:
    """Nor are port and certificate those of the original, which its workers call and trust."""
    with Storage(shutil.copy(made, made.with_name("copy"))) as storage:
        new = request_of(storage, 1)
        assert storage.requests(*RequestState) == [new]
        storage.require_own(new)
        with pytest.raises(NotOwnRequest, match=r"request 1 is not signed as made by this account in .*/copy"):
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
        identity = storage.identity
        assert storage.take_over() == 1
        assert storage.identity == identity


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


@fault(54, "a database from before they said whose they are", promise="it is read, and goes on when it is taken over")
def test_an_older_database(older: Path) -> None:
    lock = older.with_name("older-server")  # as if it had been served: what it holds now may have come from elsewhere
    lock.write_text(json.dumps({"pid": 1, "file": older.stat().st_ino}).ljust(4000))
    with Storage(older) as storage:
        assert storage.fault == "does not say who made it"
        with pytest.raises(NotOwnRequest, match="does not say who made it: what is in it can be read"):
            storage.require_own(1)
        assert storage.count_tasks(1) == 2
        assert storage.take_over() == 1
        storage.require_own(1)


OPEN = RequestState.NEW, RequestState.SUBMITTED
CHANGES = {
    "a request": "INSERT INTO request (token, function, namespace, tasks, created, state, home)"
    " SELECT 'theirs', 'f', '', 1, 0, 1, home FROM request",
    "the same once more": "CREATE TABLE copied AS SELECT * FROM request; UPDATE copied SET id = 2, state = 1;"
    " INSERT INTO request SELECT * FROM copied; DROP TABLE copied",
    "options": 'UPDATE request SET options = \'{"shell": "trap"}\', state = 1',
    "a token": "UPDATE request SET token = 'theirs', state = 1",
    "one that had ended": "UPDATE request SET state = 1",
    "no signature": "UPDATE request SET home = '', state = 1",
    "no digest": "UPDATE request SET home = ':', state = 1",
    "a number": "UPDATE request SET home = 7, token = x'80', state = 1",
}


@fault(
    "other people",
    "a copy that was given away is changed there, and copied back over the file",
    promise="what they put in or woke up is not run; what one made oneself stays one's own",
)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_others_put_into_a_copy_is_theirs_when_it_comes_back(made: Path, change: str) -> None:
    with Storage(made) as storage:
        storage.end_pending(1, Kind.CANCELLED, "cancelled")
        storage.require_own(1)
        storage.checkpoint()
    gift = Path(shutil.copy(made, made.with_name("gift")))
    with sqlite3.connect(gift) as db:
        db.executescript(change)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    made.write_bytes(gift.read_bytes())
    with Storage(made) as storage:
        assert storage.fault == ""
        assert storage.requests(*OPEN) == [*storage.unended()] == []
        [(latest,)] = storage.db.execute("SELECT max(id) FROM request")
        with pytest.raises(NotOwnRequest, match="is not signed as made by this account"):
            storage.require_own(latest)
        new = request_of(storage, 1)
        assert storage.requests(*OPEN) == [new]


@pytest.mark.parametrize("column", ["function", "namespace", "form"])
def test_a_function_that_others_changed_is_not_run(made: Path, column: str) -> None:
    with Storage(made) as storage:
        storage.db.execute(f"UPDATE request SET {column} = '[]'")
        with pytest.raises(NotOwnRequest, match="the function of request 1 is another than it was made with"):
            storage.require_own(1)
        storage.take_over()
        storage.require_own(1)


def test_what_one_does_oneself_is_signed(made: Path) -> None:
    with Storage(made) as storage:
        storage.end_pending(1, Kind.CANCELLED, "cancelled")
        assert storage.retry(1, {"host": "fear"}, False) == 2
        storage.require_own(1)
        storage.undo_retry(1, {})
        storage.require_own(1)
        assert storage.retry(1, {}, False, Function(b"g", b"", {})) == 2
        storage.require_own(1)
        assert storage.requests(*OPEN) == [1]
