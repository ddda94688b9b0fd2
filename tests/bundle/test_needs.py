"""What a value needs to be loaded elsewhere, and how what is in a module travels."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.bundle.projects import ask, write

NEEDS = """
import pickle, sys, types
from sheepdog.bundle import needs
def seen(value, by_value=None):
    note = needs.Needs()
    data = needs.dumps(value, by_value or needs.unshared(), note)
    return sorted(name for name in note.modules if name in OWN), data
OWN = {"mine", "mine.sub", "flat", "pkg", "pkg.sub", "made"}
"""
FLAT = """
import enum, functools, typing
class C:
    class Inner: pass
    def m(self): return 1
class E(enum.Enum):
    A = 1
class Only:
    def __reduce__(self): return "ONLY"
ONLY = Only()
def f(x): return x
@functools.lru_cache
def cached(): pass
@functools.singledispatch
def single(x): return "any"
T = typing.TypeVar("T")
def outer():
    def inner(): return C()
    return inner
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", {"flat.py": FLAT, "pkg/__init__.py": "", "pkg/sub.py": FLAT})


@pytest.mark.parametrize(
    "value",
    [
        "flat.f",
        "flat.C",
        "flat.C.Inner()",
        "flat.C().m",
        "[{'a': (flat.C(),)}]",
        "flat.E.A",
        "flat.ONLY",
        "flat.cached",
        "flat.single",
        "flat.T",
        "flat",
        "flat.outer()",
        "functools.partial(flat.f, 1)",
    ],
)
def test_a_module_is_needed(project: Path, value: str) -> None:
    """And what is in it goes by its name: it is the very same here."""
    modules, same = ask(
        NEEDS + f"import flat, functools\nmodules, data = seen({value})\nback = pickle.loads(data)\n"
        f"answer = modules, b'lambda' not in data and type(back) is type({value})",
        project,
    )
    assert (modules, same) == (["flat"], True)


def test_modules_of_what_goes_by_value_are_needed(project: Path) -> None:
    """As of a script's functions: also those that they import when they are called."""
    program = """
        import pkg.sub, flat
        def f():
            import made
            return g() + pkg.sub.f(1)
        def g(): return flat.C
        note = needs.Needs()
        needs.dumps(f, needs.unshared(), note)
        answer = sorted(note.modules & OWN), sorted(each.name for each, _ in note.imports()), "C" in note.names()
    """
    modules, imports, used = ask(NEEDS + dedent(program), project)
    assert {"flat", "pkg", "pkg.sub"} == set(modules)
    assert (imports, used) == (["made"], True)


def test_no_other_pickler_is_changed(project: Path) -> None:
    program = """
import cloudpickle, flat
for by_value in (needs.unshared(), needs.everything()):
    seen(flat.f, by_value)
answer = len(cloudpickle.list_registry_pickle_by_value()), len(cloudpickle.dumps(flat.f)) < 50
"""
    program = program.replace("cloudpickle.list", "cloudpickle.cloudpickle.list")
    assert ask(NEEDS + program, project) == (0, True)


def test_what_the_user_has_registered_goes_by_value(project: Path) -> None:
    program = "import cloudpickle, flat; cloudpickle.register_pickle_by_value(flat); answer = seen(flat.f)[0]"
    assert ask(NEEDS + program, project) == []


def test_a_module_that_no_file_makes_goes_by_value(project: Path) -> None:
    """Nor one whose file has another name; but what a package has made goes by its name."""
    program = """
made = types.ModuleType("made")
sys.modules["made"] = made
exec("class C: pass\\ndef f(): return C", made.__dict__)
import pkg
inside = pkg.inside = sys.modules["pkg.inside"] = types.ModuleType("pkg.inside")
exec("def f(): return 1", inside.__dict__)
one, two = seen(made.f)[1], seen(inside.f)[1]
del sys.modules["made"]
answer = pickle.loads(one)().__name__, len(two) < 50
"""
    assert ask(NEEDS + program, project) == ("C", True)


def test_the_second_form_names_no_own_module(project: Path) -> None:
    """All of them go along, whoever imports whom; slots, caches and nested classes too."""
    write(
        project,
        {
            "one.py": """
                import functools, two
                from dataclasses import dataclass
                @dataclass(slots=True)
                class Slots:
                    x: int
                    class Inner:
                        y = 1
                @functools.lru_cache
                def cached(): return 1
                def f(x): return two.g(Slots(x)) + cached() + Slots.Inner.y
            """,
            "two.py": "import one\ndef g(s):\n    assert isinstance(s, one.Slots)\n    return s.x\n",
        },
    )
    program = """
import one
modules, data = seen((one.f, one, one.Slots(3)), needs.everything())
for name in ("one", "two"):
    del sys.modules[name]
sys.path[:] = [path for path in sys.path if "project" not in path and path]
sys.path_importer_cache.clear()
f, module, s = pickle.loads(data)
answer = modules, f(1), module.f(2), s.x, "one" in sys.modules
"""
    assert ask(NEEDS + program, project) == ([], 3, 4, 3, False)


def test_what_is_this_library_s_goes_as_what_the_other_end_has(project: Path) -> None:
    program = "import sheepdog; data = seen(lambda: sheepdog)[1]; answer = b'_sheepdog_worker' in data"
    assert ask(NEEDS + program, project) is True


def test_a_module_of_a_kind_of_its_own_goes_by_its_name(project: Path) -> None:
    """As those of six, mpmath and sh."""
    write(
        project, {"kind.py": "import sys, types\nclass M(types.ModuleType): pass\nsys.modules[__name__].__class__ = M"}
    )
    program = "import kind; data = seen(kind)[1]; answer = pickle.loads(data) is kind"
    assert ask(NEEDS + program, project) is True
