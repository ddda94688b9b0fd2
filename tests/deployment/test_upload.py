"""Files that are put on a host, and what a script says there."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from sheepdog.deployment import LocalHost
from sheepdog.deployment.upload import marks, upload_and_run
from tests.faults import fault

SHELLS = [path for name in ("bash", "dash", "csh", "tcsh", "fish", "zsh") if (path := shutil.which(name))]


@fault(47, "a login shell of another kind", promise="commands work through all of them")
@pytest.mark.parametrize("shell", SHELLS)
def test_upload_through_every_login_shell(shell: str, tmp_path: Path) -> None:
    class Shell:
        """Does what sshd does with a command."""

        name = shell

        def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
            line = shlex.join(command)
            assert not set("\n!") & set(line)
            return LocalHost().run([shell, "-c", line], input, timeout)

    files = {"run": b"cat secret", "secret": b"\0\n!"}
    assert upload_and_run(Shell(), "! it's/$x `y`", files, "run") == b"\0\n!"
    assert (tmp_path / "! it's" / "$x `y`" / "secret").exists()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "-x", "a b", "a\nb"], ids=repr)
def test_names_that_are_not_uploaded(name: str) -> None:
    with pytest.raises(ValueError, match="not a file name to upload"):
        upload_and_run(LocalHost(), "x/y", {name: b"", "run": b""}, "run")


@pytest.mark.parametrize("place", ["", ".", "/", "~/", "a\nb", "a\0b"], ids=repr)
def test_directories_that_are_not_uploaded_to(place: str) -> None:
    with pytest.raises(ValueError, match="not a directory"):
        upload_and_run(LocalHost(), place, {"run": b""}, "run")


def test_a_script_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="'run' is not among the files"):
        upload_and_run(LocalHost(), "x/y", {"a": b""}, "run")


def test_marks() -> None:
    noise = b"Welcome!\nsheepdog is here\n sheepdog:no x\nnot sheepdog:no x\n\xff\n"
    output = noise + b"\nsheepdog:job 12\nsheepdog:dir /home/a b\r\nsheepdog:done\nsheepdog:empty \nsheepdog:job 13"
    assert marks(output) == {"job": "13", "dir": "/home/a b", "done": "", "empty": ""}
    assert marks(b"") == {}
