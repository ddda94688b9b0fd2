"""One archive, known by its content."""

import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from sheepdog.bundle.archive import pack, read
from sheepdog.errors import SerialisationError
from tests.bundle.projects import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "mine", {"a.py": "a = 1\n", "pkg/b.py": "b = 2\n", "run.sh": "#!/bin/sh\n"})
    (tmp_path / "mine/run.sh").chmod(0o700)
    return tmp_path / "mine"


def paths(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file()]


def test_the_same_files_are_the_same_bytes(folder: Path) -> None:
    one, _ = read(paths(folder), [str(folder)])
    first = pack(one)
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    two, _ = read(reversed(paths(folder)), [str(folder)])
    assert (one.name, first) == (two.name, pack(two))
    (folder / "a.py").write_text("a = 2\n")
    three, _ = read(paths(folder), [str(folder)])
    assert three.name != one.name
    assert read(paths(folder), ["/"])[0].name != three.name


def test_what_is_in_it(folder: Path) -> None:
    contents, facts = read([*paths(folder), str(folder / "gone")], [str(folder)])
    assert [str(fact) for fact in facts] == [
        f"{folder}/gone does not travel: it cannot be read (No such file or directory)"
    ]
    with tarfile.open(fileobj=io.BytesIO(pack(contents))) as archive:
        assert archive.getnames() == ["bundle.json", *(f"files{path}" for path in sorted(paths(folder)))]
        assert archive.getmember(f"files{folder}/run.sh").mode == 0o555
        assert archive.getmember(f"files{folder}/a.py").mode == 0o444
        listed = json.loads(archive.extractfile("bundle.json").read())  # type: ignore[union-attr]
    assert listed["roots"] == [str(folder)]
    assert listed["files"][f"{folder}/a.py"][1:] == [6, False]


def test_a_shell_unpacks_it(folder: Path, tmp_path: Path) -> None:
    long = folder / ("long" * 50) / ("name" * 50)
    long.mkdir(parents=True)
    (long / "täble.csv").write_text("1")
    contents, _ = read(paths(folder), [])
    (tmp_path / "bundle.tgz").write_bytes(pack(contents))
    (tmp_path / "there").mkdir()
    subprocess.run(["sh", "-c", "gzip -dc ../bundle.tgz | tar x"], cwd=tmp_path / "there", check=True)
    assert (tmp_path / f"there/files{long}/täble.csv").read_text() == "1"
    assert (tmp_path / f"there/files{folder}/run.sh").stat().st_mode & stat.S_IXUSR


def test_a_file_that_is_being_written_goes_as_it_was_listed(folder: Path) -> None:
    contents, _ = read(paths(folder), [])
    (folder / "a.py").write_text("a = 3\n")
    with tarfile.open(fileobj=io.BytesIO(pack(contents))) as archive:
        assert archive.extractfile(f"files{folder}/a.py").read() == b"a = 1\n"  # type: ignore[union-attr]


def test_a_file_that_changes_meanwhile_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheepdog.bundle.stamps.SETTLED", -1.0)
    contents, _ = read(paths(folder), [])
    (folder / "a.py").write_text("a = 3\n")
    with pytest.raises(SerialisationError, match=r"a\.py changes while it is packed: try again"):
        pack(contents)
    (folder / "a.py").unlink()
    with pytest.raises(SerialisationError, match=r"a\.py was to travel, and cannot be read any more: "):
        pack(contents)


def test_the_places_in_it(folder: Path) -> None:
    contents, _ = read(paths(folder), [str(folder)])
    assert contents.places == {str(folder), str(folder / "pkg"), *paths(folder)}
