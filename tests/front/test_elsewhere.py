"""Modules that are not here, from what was sent with a request."""

import importlib
import sys
from pathlib import Path

import pytest

from sheepdog.bundle.archive import pack, read
from sheepdog.front.elsewhere import Bundled, look_in
from sheepdog.storage import Storage


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with a request whose bundle has two modules, which are gone."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    mine = tmp_path / "mine"
    (mine / "of_a_bundle").mkdir(parents=True)
    (mine / "of_a_bundle/__init__.py").write_text("from . import inner\n")
    (mine / "of_a_bundle/inner.py").write_text("import flat_of_a_bundle\nX = flat_of_a_bundle.X\n")
    (mine / "flat_of_a_bundle.py").write_text("X = 5\n")
    files = [str(path) for path in mine.rglob("*.py")]
    contents, _ = read(files, [str(mine)])
    archive = pack(contents)
    for file in files:
        Path(file).unlink()
    with Storage(tmp_path / "db") as storage:
        number = storage.new_request(b"f", b"", [])
        storage.add_files(number, {f"bundles/{contents.name}": lambda: archive})
    return str(tmp_path / "db")


def test_a_module_that_nobody_else_finds(stored: str) -> None:
    with Storage(stored) as storage:
        look_in(storage, 1)
        look_in(storage, 1)
    assert len([each for each in sys.meta_path if isinstance(each, Bundled) and each.dbfile == stored]) == 1
    try:
        with pytest.warns(UserWarning, match="here: it is taken from what was sent with the request"):
            module = importlib.import_module("of_a_bundle")
        assert module.inner.X == 5
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("of_no_bundle")
    finally:
        for name in ("of_a_bundle", "of_a_bundle.inner", "flat_of_a_bundle"):
            sys.modules.pop(name, None)
