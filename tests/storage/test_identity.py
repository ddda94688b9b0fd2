"""Whose a database is: the same file under another name, a copy, another machine's, another account's."""

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sheepdog.errors import NotOwnRequest, StorageError
from sheepdog.storage import Storage
from sheepdog.storage.identity import Identity
from sheepdog.values import account
from tests.faults import fault


def fault_of(path: Path) -> str:
    with Storage(path) as storage:
        return storage.fault


def moved(made: Path) -> Path:
    return made.rename(made.with_name("moved"))


def linked(made: Path) -> Path:
    made.with_name("link").symlink_to("db")
    return made.with_name("link")


def by_a_linked_directory(made: Path) -> Path:
    made.with_name("directory").symlink_to(".")
    return made.with_name("directory") / "db"


def moved_and_another_in_its_place(made: Path) -> Path:
    new = moved(made)
    with Storage(made):
        return new


@pytest.mark.parametrize(
    "how", [lambda made: made, moved, linked, by_a_linked_directory, moved_and_another_in_its_place]
)
def test_the_same_file_is_the_same_whatever_it_is_called(made: Path, how: Callable[[Path], Path]) -> None:
    path = how(made)
    with Storage(path) as storage:
        assert storage.fault == ""
        storage.require_own(1)


def copied(made: Path) -> Path:
    return Path(shutil.copy(made, made.with_name("copy")))


def copied_with_its_times_and_moved(made: Path) -> Path:
    return Path(shutil.copy2(made, made.with_name("copy"))).rename(made.with_name("moved"))


def put_in_its_place(made: Path) -> Path:
    shutil.copy(made, made.with_name("copy"))
    return made.with_name("copy").replace(made)


def second_name(made: Path) -> Path:
    made.with_name("second").hardlink_to(made)
    return made.with_name("second")


@fault(
    "other people",
    "a copy of a database in use",
    promise="what is in it can be read; it neither takes nor ends the original's workers",
)
@pytest.mark.parametrize("how", [copied, copied_with_its_times_and_moved, put_in_its_place, second_name])
def test_a_copy_is_another(made: Path, how: Callable[[Path], Path]) -> None:
    path = how(made)
    with Storage(path) as storage:
        assert storage.fault == f"is a copy of the one that was made as {made}"
        with pytest.raises(NotOwnRequest, match=r"is a copy of .*: what is in it can be read.*sheepdog.take_over\("):
            storage.require_own(1)
        assert storage.count_tasks(1) == 2


@fault(
    "other people",
    "a database gets a second name, a hard link",
    promise="nothing is stored by that name, and it says why; also if SQLite cannot read it",
)
def test_a_second_name_is_not_for_use(made: Path) -> None:
    path = second_name(made)
    with Storage(path) as storage:
        with pytest.raises(StorageError, match=rf"second is another name .* of {made}, and .* make a copy with cp"):
            storage.new_request(b"f", b"", [b"args"])
        with pytest.raises(StorageError, match=rf"second is another name .* of {made}, and .* make a copy with cp"):
            storage.take_over()
        error = sqlite3.OperationalError("disk I/O error")
        assert re.search(r"second has another name, too .*\(disk I/O error\): use one alone", str(storage._told(error)))
    with Storage(made) as storage:
        assert storage.fault == ""
        assert storage.new_request(b"f", b"", [b"args"]) == 2


def test_another_machine_or_account_is_another(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(account, "machine", lambda: "another")
        assert fault_of(made) == "was made on another machine"
    with monkeypatch.context() as other:
        other.setenv("XDG_STATE_HOME", str(made.parent / "state"))
        assert fault_of(made) == "was made by another account"
        account.made_key()
        assert fault_of(made) == "was made by another account"
    assert fault_of(made) == ""


@pytest.mark.parametrize("field", ["id", "path", "device", "inode", "machine", "proof"])
def test_who_changes_a_word_cannot_prove_it(made: Path, field: str) -> None:
    with Storage(made) as storage:
        identity = storage.identity
        assert identity is not None
        words = {name: getattr(identity, name) for name in Identity._fields}
        old = words[field]
        words[field] = old + 1 if isinstance(old, int) else f"{old}0"
        assert Identity(**words).fault(storage.dbfile) == "was made by another account"


@pytest.mark.parametrize(
    "stored", [None, "", "null", "[]", "{}", '{"id": 1}', "x", 7, "[" * 100_000, b"\xff"], ids=repr
)
def test_what_is_no_identity_is_none(stored: object) -> None:
    assert Identity.read(stored) is None


def test_what_is_stored_is_read_again(made: Path) -> None:
    identity = Identity.make(str(made))
    assert Identity.read(identity.stored()) == identity
    assert account.machine() not in identity.stored() or not account.machine()
