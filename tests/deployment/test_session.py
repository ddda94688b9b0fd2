"""A command on a host that goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sheepdog.deployment import SSHHost
from sheepdog.errors import HostError
from tests.deployment.sshd import Sshd
from tests.waiting import until

Far = Callable[..., SSHHost]


def test_it_reads_and_writes(far: Far) -> None:
    with far().open(["sh", "-c", "head -c 6; cat"], b"first\n") as session:
        session.input.write(b"more")
        session.input.flush()
        came = session.early
        while len(came) < 10:
            came += session.output.read1(100)  # type: ignore[attr-defined]
        assert came == b"first\nmore"


def test_start_up_files_that_speak(sshd: Sshd, far: Far) -> None:
    (sshd.directory / "home/.bashrc").write_text("echo welcome; echo words >&2\n")
    try:
        with far().open(["cat"], b"x") as session:
            came = session.early
            while not came:
                came += session.output.read1(100)  # type: ignore[attr-defined]
            assert came == b"x"
            assert session.words() in ("words", "")
    finally:
        (sshd.directory / "home/.bashrc").unlink()


def test_a_command_that_ends_says_why(far: Far) -> None:
    with far().open(["sh", "-c", "echo no room >&2"], b"") as session:
        until(lambda: session.words() == "no room", "its words are there")


def test_it_ends_with_close(far: Far, tmp_path: Path) -> None:
    with far().open(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec cat"], b""):
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"), "it runs")
        pid = (tmp_path / "pid").read_text().strip()
        assert Path(f"/proc/{pid}").exists()
    until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")


def test_one_that_does_not_begin(far: Far) -> None:
    with pytest.raises(HostError, match="took longer than 0 s to begin"):
        far().open(["cat"], b"", timeout=0.0)
