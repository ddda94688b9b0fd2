"""Which modules are the user's own."""

import sys
import zipfile
from pathlib import Path

import pytest

from sheepdog.bundle.own import Kind, Module, Modules, describe, is_standard, root_of
from tests.bundle.projects import ask, write

pytestmark = pytest.mark.slow  # each test starts a Python

KINDS = """
import sys
from sheepdog.bundle.own import Modules
modules = Modules()
before = set(sys.modules)
answer = {name: modules.find(name) and (modules.find(name).kind.name, modules.find(name).root) for name in %r}
assert set(sys.modules) - before <= {"zipimport", "csv", "_csv"}, set(sys.modules) - before
"""


def kinds(project: Path, *names: str, first: str = "", path: tuple[str, ...] = ()) -> dict[str, tuple[str, str] | None]:
    found: dict[str, tuple[str, str] | None] = ask(first + KINDS % (list(names),), project, path)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", {"flat.py": "", "pkg/__init__.py": "", "pkg/sub.py": "1 / 0", "ns/inner.py": ""})


def test_what_an_import_would_find(project: Path) -> None:
    found = kinds(
        project, "flat", "pkg.sub", "ns", "ns.inner", "nothing", "pkg.nothing", "flat.x", "json", "_json", "sys"
    )
    own, standard = ("OWN", str(project)), ("STANDARD", "")
    assert found == {
        "flat": own,
        "pkg.sub": own,
        "ns": ("NAMESPACE", ""),
        "ns.inner": own,
        "nothing": None,
        "pkg.nothing": None,
        "flat.x": None,
        "json": standard,
        "_json": standard,
        "sys": standard,
    }


def test_a_project_with_its_environment_in_it(tmp_path: Path) -> None:
    """`python -m venv .` puts sys.prefix above the user's own files."""
    project = write(
        tmp_path / "project",
        {
            "mine.py": "",
            "lib/python3.11/site-packages/theirs.py": "",
            "queue.py": "",
            "lib/pkgs/dist-packages/deb.py": "",
        },
    )
    inside = str(project / "lib/python3.11/site-packages"), str(project / "lib/pkgs/dist-packages")
    found = kinds(
        project, "mine", "theirs", "deb", "queue", first=f"import sys; sys.prefix = {str(project)!r}\n", path=inside
    )
    assert found["mine"] == ("OWN", str(project))
    assert found["theirs"] == ("INSTALLED", inside[0])
    assert found["deb"] == ("INSTALLED", inside[1])
    assert found["queue"] == ("OWN", str(project))  # it hides the standard library's, here and there


def test_a_folder_that_pip_was_given_as_target(project: Path, tmp_path: Path) -> None:
    """Environment modules and `pip --target` have such on PYTHONPATH; what else lies there is the user's own."""
    write(
        tmp_path / "modules",
        {
            "numpy/__init__.py": "",
            "numpy/core.py": "",
            "numpy-2.0.dist-info/RECORD": "numpy/__init__.py,sha256=x,0\nnumpy/core.py,,\n",
            "old/__init__.py": "",
            "old-1.0.egg-info/installed-files.txt": "../old/__init__.py\n",
            "mine.py": "",
            "developed/__init__.py": "",
            "developed.egg-info/top_level.txt": "developed\n",
            "eggs/e-1.0-py3.11.egg/EGG-INFO/PKG-INFO": "",
            "eggs/e-1.0-py3.11.egg/e.py": "",
        },
    )
    there, egg = str(tmp_path / "modules"), str(tmp_path / "modules/eggs/e-1.0-py3.11.egg")
    found = kinds(project, "numpy", "numpy.core", "old", "mine", "developed", "e", path=(there, egg))
    assert {name: kind[0] for name, kind in found.items() if kind} == {
        "numpy": "INSTALLED",
        "old": "INSTALLED",
        "mine": "OWN",
        "developed": "OWN",
        "e": "INSTALLED",
    }
    assert found["numpy.core"] is None  # nothing is looked for in it


FINDER = """
    import sys
    from importlib.machinery import ModuleSpec, PathFinder
    from importlib.util import spec_from_file_location
    from pathlib import Path
    MAPPING = {"edited": %r}
    class _EditableFinder:
        @classmethod
        def find_spec(cls, fullname, path=None, target=None):
            if fullname in MAPPING:
                place = Path(MAPPING[fullname], "__init__.py")
                return spec_from_file_location(fullname, place)
            return None
    def install():
        if not any(finder == _EditableFinder for finder in sys.meta_path):
            sys.meta_path.append(_EditableFinder)
"""


def test_editable_installs(tmp_path: Path, project: Path) -> None:
    """As setuptools makes them, with a finder and with a .pth, and flit, with a link."""
    sources = write(tmp_path / "sources", {"edited/__init__.py": "", "edited/a.py": "", "linked/__init__.py": ""})
    write(tmp_path / "other", {"by_path.py": ""})
    site = write(
        tmp_path / "venv/site-packages",
        {
            "__editable___edited_1_0_finder.py": FINDER % str(sources / "edited"),
            "__editable__.edited-1.0.pth": "import __editable___edited_1_0_finder as finder; finder.install()",
            "by_path.pth": str(tmp_path / "other"),
            "edited-1.0.dist-info/RECORD": "__editable__.edited-1.0.pth,,\n__editable___edited_1_0_finder.py,,\n",
            "cached-1.0.dist-info/RECORD": "cached.py,,\n",
            "copied.py": "",
        },
    )
    (site / "linked").symlink_to(sources / "linked")
    write(tmp_path / "cache", {"cached.py": ""})
    (site / "cached.py").symlink_to(tmp_path / "cache/cached.py")  # as uv does where it is told to
    first = f"import site; site.addsitedir({str(site)!r})\n"
    found = kinds(project, "edited", "edited.a", "by_path", "linked", "copied", "cached", first=first)
    assert found == {
        "edited": ("OWN", str(sources)),
        "edited.a": ("OWN", str(sources)),
        "by_path": ("OWN", str(tmp_path / "other")),
        "linked": ("OWN", str(site)),
        "copied": ("INSTALLED", str(site)),
        "cached": ("INSTALLED", str(site)),
    }


def test_what_is_no_source_file(tmp_path: Path) -> None:
    project = write(tmp_path / "project", {"_fast.so": "", "notebook.ipynb": "", "other_name.py": ""})
    with zipfile.ZipFile(project / "lib.zip", "w") as made:
        made.writestr("zipped.py", "")
        made.writestr("zpkg/__init__.py", "")
        made.writestr("zpkg/m.py", "")
    first = """
import sys, types, importlib.util
sys.modules["made"] = types.ModuleType("made")
spec = importlib.util.spec_from_file_location("named_so", "other_name.py")
sys.modules["named_so"] = importlib.util.module_from_spec(spec)
sys.modules["notebook"] = types.ModuleType("notebook")
sys.modules["notebook"].__file__ = "notebook.ipynb"
"""
    archive = str(project / "lib.zip")
    names = ("_fast", "made", "named_so", "notebook", "zipped", "zpkg.m", "__main__")
    found = kinds(project, *names, first=first, path=(archive,))
    assert found == {
        "_fast": ("COMPILED", str(project)),
        "made": ("NO_FILE", ""),
        "named_so": ("NO_FILE", ""),
        "notebook": ("NO_FILE", ""),
        "zipped": ("ZIPPED", archive),
        "zpkg.m": ("ZIPPED", archive),
        "__main__": ("NO_FILE", ""),
    }


def test_a_folder_that_is_a_link_has_the_name_that_it_is_imported_by(tmp_path: Path) -> None:
    write(tmp_path / "real", {"__init__.py": ""})
    project = write(tmp_path / "project", {"flat.py": ""})
    (project / "pkg").symlink_to(tmp_path / "real")
    assert kinds(project, "pkg") == {"pkg": ("OWN", str(project))}


def test_this_library_never_travels() -> None:
    import sheepdog

    for name in ("sheepdog", "gridengine", "cloudpickle"):
        found = Modules().find(name)
        assert found is not None
        assert found.kind == Kind.INSTALLED
    assert describe("sheepdog", sheepdog).kind == Kind.INSTALLED


def test_a_module_that_loads_lazily_stays_unloaded() -> None:
    program = """
        import importlib.util, sys, types
        from sheepdog.bundle.own import Modules
        spec = importlib.util.find_spec("colorsys")
        loader = importlib.util.LazyLoader(spec.loader)
        spec.loader = loader
        lazy = importlib.util.module_from_spec(spec)
        sys.modules["colorsys"] = lazy
        loader.exec_module(lazy)
        Modules().find("colorsys")
        answer = type(lazy) is not types.ModuleType
    """
    assert ask(program, Path.cwd())


@pytest.mark.parametrize(
    ("name", "file", "package", "root"),
    [
        ("a", "/p/a.py", False, "/p"),
        ("a", "/p/a/__init__.py", True, "/p"),
        ("a.b", "/p/a/b.py", False, "/p"),
        ("a.b", "/p/a/b.cpython-311-x86_64-linux-gnu.so", False, "/p"),
        ("a.b", "/p/x/b.py", False, ""),
        ("a", "/p/b.py", False, ""),
        ("a", "/p/b/__init__.py", True, ""),
        ("a", "/p/a.py", True, ""),
    ],
)
def test_the_folder_to_be_on_the_path(name: str, file: str, package: bool, root: str) -> None:
    assert root_of(name, file, package) == root


def test_the_standard_library_is_known_by_its_folder() -> None:
    import json

    assert is_standard(json.__file__)
    assert not is_standard(pytest.__file__)
    assert not is_standard(__file__)


@pytest.mark.parametrize(
    ("module", "package"),
    [(Module("a", Kind.OWN), ""), (Module("a.b", Kind.OWN), "a"), (Module("a.b", Kind.OWN, paths=("/a/b",)), "a.b")],
)
def test_the_package_of_a_module(module: Module, package: str) -> None:
    assert module.package == package


def test_a_finder_that_fails_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            raise RuntimeError

    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "this", raising=False)
    found = Modules().find("this")
    assert found is not None
    assert found.kind == Kind.STANDARD
