"""Turns: one question for all the servers of a user."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sheepdog.server.scheduling.turns import take_turn
from tests.faults import fault


def only_file(directory: Path) -> Path:
    [file] = directory.iterdir()
    return file


@fault("polite", "two servers of one user ask one head node", promise="one status query at most in an interval")
def test_one_of_two_has_its_turn_and_the_other_learns_how_long_to_wait(tmp_path: Path) -> None:
    assert take_turn("head", 30.0, tmp_path) == 0
    assert take_turn("head", 30.0, tmp_path) == pytest.approx(30, abs=2)
    assert take_turn("another", 30.0, tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_many_processes_at_once_have_one_turn(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom sheepdog.server.scheduling.turns import take_turn\n"
        "sys.stdin.read()\n"
        "print(take_turn('head', 600.0, Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipe = subprocess.PIPE
    askers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(5)]
    for asker in askers:
        assert asker.stdin
        asker.stdin.close()
        asker.stdin = None
    pauses = sorted(float(asker.communicate()[0]) for asker in askers)
    assert pauses[0] == 0
    assert all(pause > 300 for pause in pauses[1:])


def test_the_turn_comes_again(tmp_path: Path) -> None:
    take_turn("head", 30.0, tmp_path)
    long_ago = time.time() - 31
    os.utime(only_file(tmp_path), (long_ago, long_ago))
    assert take_turn("head", 30.0, tmp_path) == 0
    assert take_turn("head", 30.0, tmp_path) > 0


@fault((20, "clock jumps"), "the clock is set back by a day", promise="the scheduler is asked all the same")
def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    take_turn("head", 30.0, tmp_path)
    tomorrow = time.time() + 86400
    os.utime(only_file(tmp_path), (tomorrow, tomorrow))
    assert take_turn("head", 30.0, tmp_path) == 0
    assert take_turn("head", 30.0, tmp_path) > 0


def test_the_files_are_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert take_turn("head", 30.0) == 0
    assert take_turn("head", 30.0) > 0
    directory = tmp_path / ".cache/sheepdog/turns"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert only_file(directory).read_text() == "head\n"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert take_turn("head", 30.0) == 0
    assert only_file(tmp_path / "other/sheepdog/turns").exists()


def test_without_a_cache_each_server_asks_for_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert take_turn("head", 30.0, tmp_path / "file" / "turns") == 0


def test_a_file_that_leads_elsewhere_stays_as_it_is(tmp_path: Path) -> None:
    assert take_turn("head", 30.0, tmp_path / "turns") == 0
    file = only_file(tmp_path / "turns")
    (tmp_path / "precious").write_text("precious")
    file.unlink()
    file.symlink_to(tmp_path / "precious")
    assert take_turn("head", 30.0, tmp_path / "turns") == 0
    assert (tmp_path / "precious").read_text() == "precious"
