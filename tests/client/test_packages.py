"""Looking for installed packages: what is there, which version, and nothing is imported."""

import json
import os
import sys
from pathlib import Path

import pytest

from sheepdog.client.packages import NOTE, find, is_as_new, libc_here, look, misfit, missing, version_of
from tests.bundle.projects import write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, none of which may be imported."""
    fail = "raise AssertionError('it was imported')"
    made = write(
        tmp_path / "site-packages",
        {
            "wool/__init__.py": fail,
            "wool/fine.py": fail,
            "Wool_Tools-2.1.dist-info/METADATA": "",
            "hemp.py": fail,
            "hemp_tools-1.0-py3.6.egg-info/PKG-INFO": "",
            "space/part/__init__.py": fail,
        },
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(made)])
    return made


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("wool", True),
        ("wool.fine", True),
        ("wool.coarse", False),
        ("wool.fine.deep", False),
        ("hemp", True),
        ("space.part", True),
        ("space.other", False),
        ("nowhere", False),
        ("nowhere.at.all", False),
        ("sys", True),
        ("os.path", False),
    ],
)
def test_find(folder: Path, name: str, there: bool) -> None:
    assert (find(name) is not None) is there


def test_version(folder: Path) -> None:
    assert version_of(find("wool"), "wool-tools") == "2.1"
    assert version_of(find("hemp"), "hemp.tools") == "1.0"
    assert version_of(find("wool"), "wool") == ""
    assert version_of(find("sys"), "sys") == ""


def row(name: str, version: str, certain: bool = True, *modules: str, of: str = "") -> list[object]:
    return [name, of or name, version, certain, "", list(modules)]


def test_what_is_there_is_no_news(folder: Path) -> None:
    assert look([row("wool", "2.1", True, "wool.coarse", of="wool-tools"), row("hemp", "", True)]) == ([], [])


def test_what_is_not_there_is_lacking_if_it_is_needed_for_certain(folder: Path) -> None:
    assert look([row("silk", "1.0"), row("linen", "1.0", False)]) == ([["silk", "", ""]], [["linen", "", ""]])


def test_another_version_is_lacking_only_if_a_module_of_it_is(folder: Path) -> None:
    same, other = (
        row("wool", "3.0", True, "wool.fine", of="wool-tools"),
        row("wool", "3.0", True, "wool.x", of="wool-tools"),
    )
    assert look([same]) == ([], [["wool", "2.1", ""]])
    assert look([other]) == ([["wool", "2.1", "wool.x"]], [])


def test_folders_are_looked_at_besides(tmp_path: Path) -> None:
    before = list(sys.path)
    write(tmp_path / "brought", {"flax/__init__.py": "", "flax-1.dist-info/METADATA": ""})
    assert look([row("flax", "1")]) == ([["flax", "", ""]], [])
    assert look([row("flax", "1")], [str(tmp_path / "brought")]) == ([], [])
    assert sys.path == before


PYTHON, MACHINE = ".".join(map(str, sys.version_info[:2])), os.uname().machine


@pytest.mark.parametrize(
    ("python", "machine", "libc", "said"),
    [
        (PYTHON, "", "", ""),
        (PYTHON, MACHINE, libc_here(), ""),
        (PYTHON, MACHINE, "glibc 2.3", ""),
        ("3.5", "", "", f"CPython 3.5, and this is cpython {PYTHON}."),
        (PYTHON, "s390x", "glibc 2.3", f"CPython {PYTHON} on s390x with glibc 2.3, and this is"),
        (PYTHON, MACHINE, "glibc 99.1", f"CPython {PYTHON} on {MACHINE} with glibc 99.1, and this is"),
        (PYTHON, MACHINE, "uclibc", f"CPython {PYTHON} on {MACHINE} with uclibc, and this is"),
    ],
)
def test_whether_packages_are_for_this_python(tmp_path: Path, python: str, machine: str, libc: str, said: str) -> None:
    assert misfit(str(tmp_path)) == ""
    (tmp_path / NOTE).write_text(json.dumps({"python": python, "machine": machine, "libc": libc}))
    found = misfit(str(tmp_path))
    assert found.startswith(said)
    assert bool(found) is bool(said)


@pytest.mark.parametrize(
    ("here", "needed", "fits"),
    [
        ("glibc 2.36", "glibc 2.36", True),
        ("glibc 2.9", "glibc 2.17", False),
        ("glibc 2.36", "musl", False),
        ("musl", "musl", True),
    ],
)
def test_c_libraries(here: str, needed: str, fits: bool) -> None:
    assert is_as_new(here, needed) is fits


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("sim.py, line 1: ModuleNotFoundError: No module named 'wool'", [["wool", "", ""]]),
        ("No module named 'wool.fine'", [["wool", "?", "wool.fine"]]),
        ("No module named 'woollen'", []),
        ("invalid syntax", []),
    ],
)
def test_which_package_a_failed_import_lacks(error: str, said: list[list[str]]) -> None:
    assert missing(error, ["silk", "wool"]) == said
