"""Folders on a host: whoever puts them there, and whatever goes wrong."""

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sheepdog.bundle.archive import pack, read
from sheepdog.deployment import LocalHost
from sheepdog.deployment.folders import BUNDLES, PACKAGES, PYTHONS, put, why_not
from sheepdog.errors import CommandFailed
from tests.faults import fault


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[str, bytes]:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "sim.py").write_text("X = 1\n")
    (mine / "large.bin").write_bytes(os.urandom(3 << 20))
    contents, _ = read([str(path) for path in mine.iterdir()], [str(mine)])
    return contents.name, pack(contents)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "bundles").iterdir())


def test_it_is_sent_once(tmp_path: Path, bundle: tuple[str, bytes]) -> None:
    name, archive = bundle
    assert put(LocalHost(), str(tmp_path / "place"), BUNDLES, name, lambda: archive)
    assert not put(LocalHost(), str(tmp_path / "place"), BUNDLES, name, lambda: b"")
    assert names(tmp_path / "place") == [name]
    there = tmp_path / "place/bundles" / name
    assert (there / "files" / str(tmp_path / "mine/sim.py").lstrip("/")).read_text() == "X = 1\n"
    assert {path.name for path in there.iterdir()} == {"bundle.json", "files"}
    assert there.stat().st_mode & 0o777 == 0o700


@fault("own modules", "two push the same files at once", promise="there is one bundle, whole")
def test_two_at_once(tmp_path: Path, bundle: tuple[str, bytes]) -> None:
    name, archive = bundle
    args = (LocalHost(), str(tmp_path / "place"), BUNDLES, name, lambda: archive)
    threads = [threading.Thread(target=put, args=args) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path / "place") == [name]
    assert {path.name for path in (tmp_path / "place/bundles" / name).iterdir()} == {"bundle.json", "files"}


@fault(
    "own modules",
    "the connection ends in the midst of the files",
    promise="nothing half is left; it can be tried again",
)
def test_what_is_cut_off_leaves_nothing(tmp_path: Path, bundle: tuple[str, bytes]) -> None:
    name, archive = bundle
    with pytest.raises(CommandFailed):
        put(LocalHost(), str(tmp_path / "place"), BUNDLES, name, lambda: archive[: len(archive) // 2])
    assert names(tmp_path / "place") == []
    assert put(LocalHost(), str(tmp_path / "place"), BUNDLES, name, lambda: archive)


@fault("own modules", "the disk over there is full, or a quota reached", promise="that is said; nothing half is left")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
@pytest.mark.parametrize("size", ["1M", "5M"], ids=["on the way", "while it is unpacked"])
def test_a_full_disk(tmp_path: Path, bundle: tuple[str, bytes], size: str) -> None:
    name, archive = bundle
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(CommandFailed) as caught:
            put(LocalHost(), str(place), BUNDLES, name, lambda: archive)
        assert b"space" in caught.value.errors
        assert names(place) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def few_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let there be only the programs that each system has, without some."""

    def leave_out(*names: str) -> None:
        (tmp_path / "bin").mkdir()
        for folder in ("/bin", "/usr/bin"):
            for each in Path(folder).iterdir():
                if each.name not in names and not (tmp_path / "bin" / each.name).is_symlink():
                    (tmp_path / "bin" / each.name).symlink_to(each)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    return leave_out


def test_without_gzip(tmp_path: Path, bundle: tuple[str, bytes], few_programs: Callable[..., None]) -> None:
    name, archive = bundle
    few_programs("gzip")
    assert put(LocalHost(), str(tmp_path / "place"), PYTHONS, name, lambda: archive)
    assert {path.name for path in (tmp_path / "place/pythons" / name).iterdir()} == {"bundle.json", "files"}


def test_without_tar(tmp_path: Path, bundle: tuple[str, bytes], few_programs: Callable[..., None]) -> None:
    name, archive = bundle
    few_programs("tar")
    with pytest.raises(CommandFailed, match="there is no tar on this machine"):
        put(LocalHost(), str(tmp_path / "place"), PYTHONS, name, lambda: archive)


def test_an_archive_that_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed):
        put(LocalHost(), str(tmp_path / "place"), PACKAGES, "0" * 64, lambda: b"no gzip")
    assert list((tmp_path / "place/packages").iterdir()) == []


def test_why_not_is_a_line() -> None:
    """tar says it of each file."""
    words = b"tar: a: Wrote only 5 of 9 bytes\n" + b"tar: b: Cannot write: No space left on device\n" * 700
    found = why_not(CommandFailed("sh failed", 2, b"", words))
    assert found == (
        "tar: b: Cannot write: No space left on device (and 700 lines more): make room there, or set ssh_dir to a "
        "directory with more"
    )
    assert why_not(CommandFailed("sh failed", 2, b"", b"")) == "sh failed"
