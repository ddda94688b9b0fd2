"""Pythons that are brought along: what is packed of them, what is refused, and what becomes of them on a host."""

import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from sheepdog.deployment import LocalHost, brought
from sheepdog.deployment.pythons import Pythons
from sheepdog.errors import CommandFailed, ConfigError, HostError
from tests.faults import fault

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a Python for Linux is made of the one that runs")
MACHINE = os.uname().machine
THERE = Pythons("fear", "Linux", MACHINE, "glibc 2.99", ())


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[brought.Brought, bytes]:
    """The Python that runs, packed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        found = brought.make(sys.base_prefix)
        return found, found.file.read_bytes()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def name(real: tuple[brought.Brought, bytes], home: Path) -> str:
    """The name of one that can be put."""
    found, content = real
    brought.cache().mkdir(parents=True)
    found.file.write_bytes(content)
    return found.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What looks like a CPython: its program is a shell."""
    top = tmp_path / "python"
    files = ("os.py", "json/__init__.py", "json/__pycache__/x.pyc", "test/big.py", "site-packages/numpy.py", "old.pyc")
    for each in files:
        file = top / "lib/python3.13" / each
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(each)
    (top / "bin").mkdir()
    shutil.copy(Path("/bin/sh").resolve(), top / "bin/python3.13")
    (top / "bin/pip3").write_text("#!/where/it/was/made\n")
    (top / "include/python3.13").mkdir(parents=True)
    (top / "include/python3.13/patchlevel.h").write_text('#define PY_VERSION      "3.13.7"\n')
    return top


def inside(found: brought.Brought) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(found.file) as archive:
        return {member.name: member for member in archive.getmembers()}


# --- what is packed


def test_what_is_packed(folder: Path) -> None:
    found = brought.make(str(folder))
    assert (found.version, found.machine, found.source) == ("3.13.7", MACHINE, str(folder))
    members = inside(found)
    links = {name: member.linkname for name, member in members.items() if member.issym()}
    assert links == {"bin/python": "python3.13", "bin/python3": "python3.13"}
    assert sorted(members.keys() - links) == [
        "bin/python3.13",
        "lib/python3.13/json/__init__.py",
        "lib/python3.13/os.py",
    ]
    assert members["bin/python3.13"].mode == 0o755
    assert found.size == found.file.stat().st_size


def test_the_same_files_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    assert brought.make(str(folder)).name == brought.make(str(other)).name
    (other / "lib/python3.13/os.py").write_text("another")
    assert brought.make(str(folder)).name != brought.make(str(other)).name


def test_it_is_packed_once(folder: Path) -> None:
    first = brought.make(str(folder))
    os.utime(first.file, (1, 1))
    assert brought.make(str(folder)) == first
    assert first.file.stat().st_mtime > 1
    first.file.write_bytes(b"cut off")
    assert brought.make(str(folder)) == first
    assert first.file.stat().st_size == first.size


def test_a_library_that_is_another_is_packed_anew(folder: Path) -> None:
    """The interpreter may be in there."""
    library = folder / "lib/libpython3.13.so.1.0"
    library.write_bytes(b"one")
    stamp = brought._Prefix.find(folder, "x").stamp()
    library.write_bytes(b"another")
    assert brought._Prefix.find(folder, "x").stamp() != stamp


def test_an_archive_with_a_wrong_checksum(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "good.tar.gz", "w:gz") as archive:
        archive.add(folder, "python")
    data = bytearray((tmp_path / "good.tar.gz").read_bytes())
    data[-6] ^= 1
    (tmp_path / "bad.tar.gz").write_bytes(data)
    assert "cannot be unpacked" in refused(tmp_path / "bad.tar.gz")


def test_a_few_are_kept(folder: Path) -> None:
    for number in range(2 * brought.KEPT):
        (folder / "lib/python3.13/os.py").write_text(f"X = {number}")
        last = brought.make(str(folder))
    assert len([*brought.cache().glob("*.tgz")]) == brought.KEPT
    assert last.file.exists()


@pytest.mark.parametrize("compression", ["gz", "xz", "bz2"])
@pytest.mark.parametrize("top", ["python", "python/install", "."])
def test_an_archive_is_as_its_folder(folder: Path, tmp_path: Path, compression: str, top: str) -> None:
    archive = tmp_path / f"cpython-3.13.tar.{compression}"
    with tarfile.open(archive, f"w:{compression}") as tar:  # type: ignore[call-overload]
        tar.add(folder, top)
    assert brought.make(str(archive)).name == brought.make(str(folder)).name


# --- what is refused


def refused(source: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        brought.make(str(source))
    assert str(caught.value).startswith(f"python is {str(source)!r}")
    return str(caught.value)


@fault(
    "Pythons",
    "what is to be brought along is not there, is no Python, or cannot be moved",
    promise="that is said before anything is sent",
)
def test_what_cannot_be_packed(folder: Path, tmp_path: Path) -> None:
    assert "there is no such file or folder here" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "there is no CPython in it" in refused(tmp_path / "empty")
    (tmp_path / "text.tar.gz").write_text("no archive")
    assert "which cannot be unpacked" in refused(tmp_path / "text.tar.gz")
    (folder / "pyvenv.cfg").touch()
    assert "is a virtual environment" in refused(folder)
    (folder / "pyvenv.cfg").unlink()
    (folder / "bin/python3.13").write_bytes(b"\xcf\xfa\xed\xfe" + bytes(100))
    assert "is no program for Linux" in refused(folder)
    assert "name it with the option shell: shell=" in refused(Path(sys.executable))
    for name in ("bin/python3.13", "lib/python3.13"):
        (folder / name).rename(folder / name.replace("3.13", "3.5"))
    assert "a CPython 3.5: workers need one from 3.6 on" in refused(folder)


def test_an_archive_that_is_cut_off(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "cpython.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "python")
    archive.write_bytes(archive.read_bytes()[:-2000])
    assert "cannot be unpacked" in refused(archive)


def test_an_archive_that_would_write_elsewhere(tmp_path: Path) -> None:
    archive = tmp_path / "cpython.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    assert "cannot be unpacked" in refused(archive)


@fault(
    "Pythons",
    "what is to be brought along is for another machine, system or libc",
    promise="that is said before anything is sent",
)
@pytest.mark.parametrize(
    ("there", "words"),
    [
        (THERE, ""),
        (Pythons("fear", "Darwin", "arm64", "", ()), "is for Linux, and fear runs Darwin"),
        (Pythons("fear", "Linux", "riscv64", "glibc 2.40", ()), f"is for {MACHINE}, and fear is riscv64"),
        (Pythons("fear", "Linux", MACHINE, "glibc 2.5", ()), "or newer, and fear has glibc 2.5"),
        (Pythons("fear", "Linux", MACHINE, "musl", ()), "needs glibc 2."),
        (Pythons("fear", "Linux", MACHINE, "", ()), ""),
    ],
)
def test_what_cannot_work(folder: Path, there: Pythons, words: str) -> None:
    refusal = brought.make(str(folder)).refusal(there)
    assert words in refusal
    assert bool(words) == bool(refusal)


# --- on a host


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_runs_where_it_is_put(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"{tmp_path}/a place"
    assert brought.put(LocalHost(), place, name) > 1_000_000
    assert brought.put(LocalHost(), place, name) == 0
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    code = "import sys, ssl, sqlite3, ctypes, multiprocessing; print(sys.prefix, *sys.path, sep='\\n')"
    done = subprocess.run(
        ["sh", "-c", f'{brought.command(place, name)} -c "$1"', "sh", code], capture_output=True, text=True
    )
    prefix, *path = done.stdout.splitlines()
    assert prefix == f"{place}/pythons/{name}"
    assert path
    assert all(each.startswith(prefix) for each in path)
    assert (
        sys.base_prefix not in subprocess.run(["ldd", f"{prefix}/bin/python3"], capture_output=True, text=True).stdout
    )
    brought.remove(LocalHost(), place, name)
    assert [*Path(place, "pythons").iterdir()] == []


def test_two_push_it_at_once(name: str, tmp_path: Path) -> None:
    sent: list[int] = []
    threads = [
        threading.Thread(target=lambda: sent.append(brought.put(LocalHost(), str(tmp_path / "place"), name)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 3
    assert [path.name for path in (tmp_path / "place/pythons").iterdir()] == [name]
    assert sorted(path.name for path in (tmp_path / "place/pythons" / name).iterdir()) == ["bin", "lib"]


@fault(
    "Pythons",
    "what was brought along does not start on the head node, as for want of a library",
    promise="that is said in its own words; it does not stay",
)
def test_one_that_does_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "bin/python3.13").write_bytes(Path("/bin/false").resolve().read_bytes())
    found = brought.make(str(folder))
    with pytest.raises(HostError, match="brought along does not run on this machine: it ends with status 1"):
        brought.put(LocalHost(), str(tmp_path / "place"), found.name)
    assert [*(tmp_path / "place/pythons").iterdir()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk(name: str, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=15M", "none", str(place)]).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(CommandFailed) as caught:
            brought.put(LocalHost(), str(place), name)
        assert b"space" in caught.value.errors
        assert [*(place / "pythons").iterdir()] == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    ("place", "command"), [(".sheepdog", '"$HOME"/'), ("~/.sheepdog", '"$HOME"/'), ("/scratch", "")]
)
def test_its_command(place: str, command: str) -> None:
    start = f"{command}{place.removeprefix('~/')}/pythons/{'a' * 64}/bin/python3 -I"
    assert brought.command(place, "a" * 64) == start
