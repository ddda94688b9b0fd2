"""Following imports."""

from pathlib import Path
from typing import Any

import pytest

from sheepdog.bundle.code import Import
from sheepdog.bundle.imports import absolute
from tests.bundle.projects import ask, write

pytestmark = pytest.mark.slow  # each test starts a Python

FOLLOW = """
import os, sys
%s
from sheepdog.bundle.code import look_at
from sheepdog.bundle.imports import follow
before = set(sys.modules)
reached = follow(%r)
assert not {name for name in set(sys.modules) - before if "mine" in (getattr(sys.modules[name], "__file__", "") or "")}
answer = (
    sorted(reached.own),
    {name: (used.certain, os.path.basename(used.by), used.distribution and used.distribution.version)
     for name, used in sorted(reached.used.items())},
    [str(fact) for fact in reached.facts],
)
"""


def reached(project: Path, *names: str, first: str = "", path: tuple[str, ...] = ()) -> Any:
    return ask(FOLLOW % (first, list(names)), project, path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(
        tmp_path / "mine",
        {
            "start.py": """
                import json, one
                from pkg import deep
                def f():
                    import lazy
                    from pkg.deep import other
                    import importlib
                    return importlib.import_module("by_text"), importlib.import_module("pkg.late")
                try:
                    import optional
                except ImportError:
                    import missing
                from typing import TYPE_CHECKING
                if TYPE_CHECKING:
                    from typed import T
            """,
            "one.py": "import two",
            "two.py": "import one",
            "lazy.py": "from pkg.starred import *",
            "by_text.py": "",
            "optional.py": "",
            "typed.py": "",
            "unused.py": "1 / 0",
            "pkg/__init__.py": "raise SystemExit",
            "pkg/deep/__init__.py": "from .. import up\nfrom . import sibling as s\nfrom ..up import name\n",
            "pkg/deep/sibling.py": "",
            "pkg/deep/other.py": "",
            "pkg/up.py": "name = 1",
            "pkg/late.py": "",
            "pkg/unused.py": "",
            "pkg/starred/__init__.py": "__all__ = ['part']",
            "pkg/starred/part.py": "",
        },
    )


def test_all_kinds_of_imports_are_followed_and_nothing_is_run(project: Path) -> None:
    own, used, facts = reached(project, "start")
    top = {"start", "one", "two", "lazy", "by_text", "optional", "typed", "pkg"}
    inside = {"deep", "deep.sibling", "deep.other", "up", "late", "starred", "starred.part"}
    assert set(own) == top | {f"pkg.{name}" for name in inside}
    assert (used, facts) == ({}, [])


def test_what_has_been_imported_of_a_package_counts(project: Path) -> None:
    write(
        project, {"pkg/__init__.py": "", "pkg/plugin.py": "import behind", "behind.py": "", "pkg/deep/__init__.py": ""}
    )
    own, _, _ = reached(project, "pkg.up", first="import pkg.plugin")
    assert own == ["behind", "pkg", "pkg.plugin", "pkg.up"]


def test_installed_packages_are_told_with_their_version(project: Path, tmp_path: Path) -> None:
    """And whether each must be there for the code to be imported at all."""
    site = write(
        tmp_path / "site-packages",
        {
            "numpy/__init__.py": "",
            "numpy/linalg.py": "import scipy",
            "numpy-2.1.0.dist-info/RECORD": "numpy/__init__.py,,\nnumpy/linalg.py,,\n",
            "scipy/__init__.py": "",
            "pandas.py": "",
            "pandas-2.2.dist-info/RECORD": "pandas.py,,\n",
            "google/cloud/storage.py": "",
            "gcs-3.0.dist-info/RECORD": "google/cloud/storage.py,,\n",
        },
    )
    write(
        project,
        {
            "science.py": "import numpy.linalg\nfrom google.cloud import storage\ndef f(): import pandas, helper",
            "helper.py": "import numpy\ntry:\n    import scipy\nexcept ImportError:\n    scipy = None\n",
        },
    )
    _, used, _ = reached(project, "science", path=(str(site),))
    assert used == {
        "google.cloud.storage": (True, "science.py", "3.0"),
        "numpy": (True, "science.py", "2.1.0"),
        "pandas": (False, "science.py", "2.2"),
        "scipy": (False, "helper.py", None),
    }


def test_code_that_goes_by_value(project: Path) -> None:
    """As of a script's function: with the package that `python -m` gives it."""
    program = """
        from sheepdog.bundle.code import look_at
        from sheepdog.bundle.imports import follow
        source = "def f():\\n    from . import late\\n    import lazy\\n"
        imports = look_at(compile(source, "x", "exec")).imports
        answer = sorted(follow([], [(each, "pkg") for each in imports]).own)
    """
    assert ask(program, project) == ["lazy", "pkg", "pkg.late", "pkg.starred", "pkg.starred.part"]


def test_what_a_user_should_hear(project: Path) -> None:
    write(
        project, {"bad.py": "import one\ndef f(:\n", "gone.py": "", "edited.py": "def f(): return 1\n", "_fast.so": ""}
    )
    first = """
import gone, edited
os.remove("gone.py")
open("edited.py", "w").write("def f(): return 2")
"""
    own, _, facts = reached(project, "bad", "gone", "edited", "_fast", first=first)
    assert own == ["_fast", "bad", "edited"]
    assert len(facts) == 4
    assert facts[0].startswith(f"{project}/bad.py cannot be compiled (line 2: ")
    assert facts[1] == f"{project}/gone.py is gone since gone was imported from it: what is used of it goes by value"
    assert facts[2].startswith(f"{project}/edited.py has changed since edited was imported here: ")
    assert facts[3].startswith(f"{project}/_fast.so is compiled for this Python and this machine: the module _fast")


@pytest.mark.parametrize(
    ("each", "package", "name"),
    [
        (Import(0, "a.b"), "p", "a.b"),
        (Import(1, ""), "p.q", "p.q"),
        (Import(1, "a"), "p.q", "p.q.a"),
        (Import(2, "a"), "p.q", "p.a"),
        (Import(3, "a"), "p.q", ""),
        (Import(1, "a"), "", ""),
        (Import(0, "..a"), "p.q", "p.a"),
    ],
)
def test_the_full_name(each: Import, package: str, name: str) -> None:
    assert absolute(each, package) == name
