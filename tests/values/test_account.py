"""The key of this account."""

import stat
import threading
from pathlib import Path

import pytest

from sheepdog.errors import ConfigError, NotOwnFile, StorageError
from sheepdog.values import account


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_key_is_made_once_and_nobody_else_can_read_it(state: Path) -> None:
    assert account.key() is None
    made: list[bytes] = []
    threads = [threading.Thread(target=lambda: made.append(account.made_key())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert {*made} == {account.key()}
    assert len(made[0]) == 32
    [file] = (state / "sheepdog").iterdir()
    assert file == account.key_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_it_is_in_the_home_directory_if_nothing_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert account.key_file() == tmp_path / ".local/state/sheepdog/key"


def test_a_key_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert account.key() is None
    with pytest.raises(StorageError, match=r"cannot be made .* set HOME or XDG_STATE_HOME to a directory of your own"):
        account.made_key()


def test_a_key_that_others_could_have_written_is_refused(state: Path) -> None:
    account.made_key()
    account.key_file().chmod(0o666)
    with pytest.raises(NotOwnFile):
        account.key()


def test_other_words_or_another_key_give_another_digest() -> None:
    digests = [account.digest(*words) for words in ((b"k", "a", "b"), (b"k", "ab"), (b"k", "a", "c"), (b"l", "a", "b"))]
    assert len({*digests}) == 4
    assert account.digest(b"k", "a", "b") == digests[0]


def test_the_machine_is_known_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "id").write_text("0123\n")
    monkeypatch.setattr(account, "MACHINE", (str(tmp_path / "nothing"), str(tmp_path / "id")))
    assert account.machine() == "0123"
    monkeypatch.setattr(account, "MACHINE", (str(tmp_path / "nothing"),))
    assert account.machine() == ""


def test_an_account_without_a_home_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654)
    assert account.key() is None
    for attempt in (account.home, account.key_file, account.made_key):
        with pytest.raises(ConfigError, match="the user 987654 of this machine has no home directory: set HOME"):
            attempt()
