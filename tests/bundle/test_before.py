"""What a request had before it is run again: what is here counts as it is, the rest as it was sent."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sheepdog.bundle import archive
from sheepdog.bundle.before import Before, read
from sheepdog.bundle.bundle import Bundle
from sheepdog.bundle.imports import Reached
from sheepdog.client.bundle import pack_manifest
from sheepdog.values.packages import Wanted
from tests.bundle.projects import write


def sent(place: Path, files: dict[str, str], **state: bytes) -> tuple[bytes, bytes]:
    write(place, files)
    contents, _ = archive.read([str(place / name) for name in files], [str(place)])
    manifest = pack_manifest(bytes.fromhex(contents.name), state, {Path(name).stem: {} for name in files})
    return manifest, archive.pack(contents)


def before(*each: tuple[bytes, bytes]) -> Before:
    archives = {manifest[:32]: data for manifest, data in each}
    return read((manifest for manifest, _ in each), archives.__getitem__)


def bundle(place: Path, files: dict[str, str]) -> Bundle:
    write(place, files)
    contents, _ = archive.read([str(place / name) for name in files], [str(place)] if files else [])
    return Bundle(contents, Reached(), frozenset(), ())


def test_what_is_not_here_any_more_goes_along_and_new_files_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = before(sent(tmp_path / "old", {"gone_module.py": "1\n", "found_module.py": "2\n", "data.txt": "3"}))
    now = bundle(tmp_path / "new", {"found_module.py": "4\n"})
    monkeypatch.syspath_prepend(tmp_path / "new")
    found = old.beside(now).contents
    assert [path.removeprefix(str(tmp_path)) for path in sorted(found.files)] == [
        "/new/found_module.py",
        "/old/data.txt",
        "/old/gone_module.py",
    ]
    assert found.roots == (str(tmp_path / "new"), str(tmp_path / "old"))
    changed = bundle(tmp_path / "old", {"gone_module.py": "5\n"})
    same = old.beside(changed).contents
    assert same.files[f"{tmp_path}/old/gone_module.py"] == changed.contents.files[f"{tmp_path}/old/gone_module.py"]
    assert archive.unpacked(archive.pack(found)) == found


def test_nothing_is_added_where_all_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "new")
    old = before(sent(tmp_path / "old", {"moved_module.py": "1\n"}))
    now = bundle(tmp_path / "new", {"moved_module.py": "1\n"})
    assert old.beside(now) is now
    assert Before().beside(now) is now


def test_the_last_bundle_counts_most(tmp_path: Path) -> None:
    """So it is with an open request: each call names what it needed."""
    first = sent(tmp_path, {"one_module.py": "1\n", "two_module.py": "1\n"}, one_module=b"1", two_module=b"1")
    last = sent(tmp_path, {"one_module.py": "22\n"}, one_module=b"2")
    both = before(first, last)
    assert both.names == {"one_module", "two_module"}
    assert [(Path(path).stem, each.size) for path, each in sorted(both.contents.files.items())] == [
        ("one_module", 3),
        ("two_module", 2),
    ]
    assert both.state_with({"two_module": b"3"}) == {"one_module": b"2", "two_module": b"3"}


def test_a_module_that_is_imported_here_is_as_it_is_here() -> None:
    old = Before(state={"sys": pickle.dumps({"x": 1}), "not_here": b"1"})
    assert "sys" in sys.modules
    assert old.state_with({}) == {"not_here": b"1"}


def test_packages_that_were_needed_perhaps_are() -> None:
    numpy, torch = (Wanted(name, name, "1", certain=True) for name in ("numpy", "torch"))
    new = replace(numpy, version="2")
    assert Before(wanted=(numpy, torch)).packages_with([new]) == (new, replace(torch, certain=False))
