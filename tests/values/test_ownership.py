"""What counts as a file of one's own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sheepdog.errors import NotOwnFile
from sheepdog.values.ownership import open_own, read_own, require_own
from tests.faults import fault
from tests.people import AS_ROOT


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o755])
def test_a_file_that_only_its_owner_can_write_is_read(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    file.chmod(mode)
    assert read_own(file) == b"mine"
    assert require_own(file).st_size == 4


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (lambda path: path.symlink_to("mine"), "is a link"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "is a link"),
    "a pipe": (lambda path: os.mkfifo(path), "is not a file"),
    "a directory": (lambda path: path.mkdir(), "is not a file"),
    "for all to write": (lambda path: path.touch() or path.chmod(0o602), "can be changed by others"),
    "for a group to write": (
        lambda path: path.touch() or os.chown(path, -1, 54321) or path.chmod(0o660),
        r"can be changed by others \(-rw-rw----\): see that it is as you left it",
    ),
    "another user's": (lambda path: path.touch() or os.chown(path, 54321, 54321), r"belongs to another user \(54321\)"),
}


@fault("other people", "a file that is no regular file, another user's, or open to others", promise="it is not opened")
@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND], ids=str
)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=AS_ROOT if kind[0] == "a" else ()) for kind in REFUSED])
def test_anything_else_is_refused(tmp_path: Path, kind: str, flags: int) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    make, words = REFUSED[kind]
    make(tmp_path / "file")
    for attempt in (lambda: open_own(tmp_path / "file", flags), lambda: require_own(tmp_path / "file")):
        with pytest.raises(NotOwnFile, match=words):
            attempt()
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_what_is_not_there_is_not_there_or_made(tmp_path: Path) -> None:
    for look in (read_own, require_own):
        with pytest.raises(FileNotFoundError):
            look(tmp_path / "file")
    old = os.umask(0)
    try:
        os.close(open_own(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_file_with_a_second_name_is_read_and_not_written(tmp_path: Path) -> None:
    """Where hard links are not protected, others can give one's own files such names."""
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "file").hardlink_to(tmp_path / "mine")
    assert read_own(tmp_path / "file") == b"mine"
    with pytest.raises(NotOwnFile, match="has another name, too"):
        open_own(tmp_path / "file", os.O_RDWR | os.O_TRUNC)
    assert read_own(tmp_path / "mine") == b"mine"


def test_what_is_one_s_own_is_emptied_if_so_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    os.close(open_own(tmp_path / "file", os.O_WRONLY | os.O_TRUNC))
    assert read_own(tmp_path / "file") == b""
