"""The user's own files, where they have arrived."""

import io
import json
import pathlib
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from sheepdog.bundle.archive import pack, read
from sheepdog.bundle.plain import dump
from sheepdog.client.bundle import is_whole, unpack
from tests.local import ROOT


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    mine = tmp_path / "mine"
    (mine / "pkg").mkdir(parents=True)
    (mine / "pkg/__init__.py").write_text("")
    (mine / "pkg/sub.py").write_text("A = [1]\nB = A\nclass C: x = 1\ndef f(a=A): return a, B, C.x\n")
    (mine / "run").write_text("#!/bin/sh\n")
    (mine / "run").chmod(0o755)
    files = [str(path) for path in mine.rglob("*") if path.is_file()]
    contents, _ = read(files, [str(mine)])
    (tmp_path / "bundle.tgz").write_bytes(pack(contents))
    return tmp_path / "bundle.tgz"


def test_unpacked_once_whoever_comes_first(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    threads = [threading.Thread(target=unpack, args=(archive.read_bytes(), str(folder))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tgz", "mine", "there"]
    place = folder / "files" / str(tmp_path / "mine").lstrip("/")
    assert (place / "pkg/sub.py").read_text() == (tmp_path / "mine/pkg/sub.py").read_text()
    assert (place / "run").stat().st_mode & 0o777 == 0o555
    unpack(b"", str(folder))  # it is there


@pytest.mark.parametrize("how", ["gone", "changed", "no list"])
def test_one_that_is_damaged_is_unpacked_anew(archive: Path, tmp_path: Path, how: str) -> None:
    """Some systems sweep away each file that nobody has read for long."""
    folder = tmp_path / "there"
    unpack(archive.read_bytes(), str(folder))
    assert is_whole(str(folder))
    place = folder / "files" / str(tmp_path / "mine").lstrip("/")
    damaged = folder / "bundle.json" if how == "no list" else place / "pkg/sub.py"
    size = damaged.stat().st_size
    damaged.unlink()
    if how == "changed":
        damaged.write_text("A" * size)
    assert not is_whole(str(folder))
    unpack(archive.read_bytes(), str(folder))
    assert is_whole(str(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tgz", "mine", "there"]


def test_nothing_half_is_left(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the disk is full in the middle."""
    archive.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises((EOFError, tarfile.ReadError)):
        unpack(archive.read_bytes(), str(tmp_path / "there"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tgz", "mine"]


@pytest.mark.parametrize("name", ["/abs", "../up", "files/../../up", "link"])
def test_what_is_no_file_of_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as made:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = (tarfile.SYMTYPE, "/etc") if name == "link" else (tarfile.REGTYPE, "")
        made.addfile(member, io.BytesIO())
    with pytest.raises(ValueError, match="is no file of a bundle's"):
        unpack((tmp_path / "bad.tgz").read_bytes(), str(tmp_path / "inner/there"))


def run(program: str, archive: Path, state: dict[str, bytes]) -> Any:
    folder = archive.parent / "there"
    unpack(archive.read_bytes(), str(folder))
    begin = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "src/sheepdog")!r})
from client.bundle import Own
own = Own({str(folder)!r})
own.start()
state = {state!r}
"""
    command = [sys.executable, "-I", "-S", "-c", f"{begin}\n{program}\nprint(json.dumps(answer))"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


STATE = {"pkg.sub": dump({"A": [2, 3], "C.x": 4})}


@pytest.mark.parametrize(
    "program",
    [
        "own.set(state); import pkg.sub",
        "import pkg.sub; own.set(state)",
        "own.set({}); import pkg.sub; own.set(state); own.set(state)",
        "own.set({'nothing': b''}); own.set(state); import importlib; import pkg.sub; importlib.reload(pkg.sub)",
    ],
)
def test_set_whenever_it_is_imported(archive: Path, program: str) -> None:
    found = run(f"{program}\nanswer = pkg.sub.f(), pkg.sub.A is pkg.sub.B is pkg.sub.f()[0]", archive, STATE)
    assert found == [[[2, 3], [2, 3], 4], True]


def test_what_is_not_set_any_more_is_what_it_was(archive: Path) -> None:
    """As when calls of an executor come one after the other, and a global is set between them."""
    program = """
own.set(state); import pkg.sub
answer = [list(pkg.sub.A), pkg.sub.C.x]
own.set({}); answer += [list(pkg.sub.A), pkg.sub.C.x, pkg.sub.A is pkg.sub.B]
own.set(state); answer += [list(pkg.sub.A)]
own.set({}); answer += [list(pkg.sub.A)]
"""
    assert run(program, archive, STATE) == [[2, 3], 4, [1], 1, True, [2, 3], [1]]


def test_what_is_not_there_is_set_all_the_same(archive: Path) -> None:
    state = {"pkg.sub": dump({"NEW": 1, "No.x": 2})}
    assert run("own.set(state); import pkg.sub; answer = pkg.sub.NEW", archive, state) == 1


def test_what_is_not_there_is_not_taken_back(archive: Path) -> None:
    state = {"pkg.sub": dump({"No.x": 2})}
    assert run("own.set(state); import pkg.sub; own.set({}); answer = own.state.faults, own.news", archive, state) == [
        [],
        [],
    ]


def test_tools_find_a_module_as_it_is(archive: Path) -> None:
    program = """
own.set(state)
import inspect, importlib.machinery, pkg.sub
loader = pkg.sub.__loader__
same = type(loader) is importlib.machinery.SourceFileLoader
answer = inspect.getsource(pkg.sub.f), same, own.own_name(pkg.sub.__file__)
"""
    source, same, name = run(program, archive, STATE)
    assert source == "def f(a=A): return a, B, C.x\n"
    assert same
    assert name == str(archive.parent / "mine/pkg/sub.py")


def test_names_of_files_are_those_over_there(archive: Path) -> None:
    mine = str(archive.parent / "mine")
    state = {"pkg.sub": dump({"A": mine, "P": pathlib.Path(mine)}, {mine})}
    program = "own.set(state); import pkg.sub; answer = pkg.sub.A, str(pkg.sub.P)"
    assert run(program, archive, state) == [f"{archive.parent}/there/files{mine}"] * 2
