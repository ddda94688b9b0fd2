"""Files that are put on a host, and what a script says there."""

import os
import shlex
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from sheepdog.deployment import LocalHost
from sheepdog.deployment.upload import STORE, marks, upload_and_run
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


@fault(
    "files left",
    "many jobs have the same archives on a host",
    promise="they are there once, by their hash, and stay as long as a job needs them",
)
def test_archives_are_kept_once(tmp_path: Path) -> None:
    files = {"run": b"cat client.pyz", "client.pyz": b"the worker", "cloudpickle.zip": b"cloudpickle"}
    for name in ("a", "b", "a"):
        assert upload_and_run(LocalHost(), f"x/{name}", files, "run") == b"the worker"
    kept = sorted((tmp_path / "x" / STORE).iterdir())
    assert sorted(path.read_bytes() for path in kept) == [b"cloudpickle", b"the worker"]
    assert [path.stat().st_nlink for path in kept] == [3, 3]
    assert {path.name for path in kept} == {sha256(content).hexdigest() for content in (b"the worker", b"cloudpickle")}
    upload_and_run(LocalHost(), "x/c", {**files, "client.pyz": b"another"}, "run")
    assert len([*(tmp_path / "x" / STORE).iterdir()]) == 3
    for path in kept:
        path.unlink()
    assert (tmp_path / "x/a/client.pyz").read_bytes() == b"the worker"
    assert sorted(path.name for path in (tmp_path / "x/a").iterdir()) == sorted(files)


@fault("files left", "an archive that jobs share is damaged", promise="each job has what was sent to it")
def test_a_damaged_archive_is_replaced(tmp_path: Path) -> None:
    files = {"run": b"cat client.pyz", "client.pyz": b"the worker"}
    upload_and_run(LocalHost(), "x/a", files, "run")
    [kept] = (tmp_path / "x" / STORE).iterdir()
    kept.write_bytes(b"")
    for name in ("b", "c"):
        assert upload_and_run(LocalHost(), f"x/{name}", files, "run") == b"the worker"
    assert kept.read_bytes() == b"the worker"
    assert kept.stat().st_nlink == 3


@pytest.mark.parametrize("hindrance", ["file", "link", "others"])
def test_what_cannot_be_shared_is_not(tmp_path: Path, hindrance: str) -> None:
    store = tmp_path / "x" / STORE
    (tmp_path / "x").mkdir()
    (tmp_path / "precious").mkdir()
    if hindrance == "file":
        store.touch()
    elif hindrance == "link":
        store.symlink_to(tmp_path / "precious")
    else:
        store.mkdir()
        if os.getuid():
            pytest.skip("only root can give a directory away")
        os.chown(store, 1234, 1234)
    assert upload_and_run(LocalHost(), "x/a", {"run": b"cat a.zip", "a.zip": b"zip"}, "run") == b"zip"
    assert (tmp_path / "x/a/a.zip").stat().st_nlink == 1
    assert not [*(tmp_path / "precious").iterdir()]


@fault("files left", "many submissions begin at once", promise="each has its archives, and the host has them once")
def test_many_at_once_share_an_archive(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    files = {"run": b"cat client.pyz", "client.pyz": content}
    with ThreadPoolExecutor(12) as pool:
        made = pool.map(lambda i: upload_and_run(LocalHost(), f"x/{i}", files, "run"), range(36))
        assert {*made} == {content}
    [kept] = (tmp_path / "x" / STORE).iterdir()
    assert kept.read_bytes() == content
    assert kept.stat().st_nlink == 37


def test_marks() -> None:
    noise = b"Welcome!\nsheepdog is here\n sheepdog:no x\nnot sheepdog:no x\n\xff\n"
    output = noise + b"\nsheepdog:job 12\nsheepdog:dir /home/a b\r\nsheepdog:done\nsheepdog:empty \nsheepdog:job 13"
    assert marks(output) == {"job": "13", "dir": "/home/a b", "done": "", "empty": ""}
    assert marks(b"") == {}
