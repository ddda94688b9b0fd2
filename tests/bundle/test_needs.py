"""What a value needs to be loaded elsewhere, and how what is in a module travels."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.bundle.projects import CLIENT, ask, write

pytestmark = pytest.mark.slow  # each test starts a Python

NEEDS = """
import sys, types
from sheepdog.client import load
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
        NEEDS + f"import flat, functools\nmodules, data = seen({value})\nback = load(data)\n"
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
answer = load(one)().__name__, len(two) < 50
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
f, module, s = load(data)
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
    program = "import kind; data = seen(kind)[1]; answer = load(data) is kind"
    assert ask(NEEDS + program, project) is True


@pytest.mark.parametrize("back", ["load", "far"])
def test_what_cloudpickle_cannot(project: Path, back: str) -> None:
    """A function of single dispatch, a context variable: of a script, where they go by value."""
    program = """
        import contextvars, functools, subprocess
        LEVEL = contextvars.ContextVar("level", default=3)
        NONE = contextvars.ContextVar("none")
        SET = contextvars.ContextVar("set")
        SET.set(5)
        @functools.singledispatch
        def kind(x): return "any"
        @kind.register
        def _(x: int): return "int"
        @kind.register(list)
        def of_list(x): return [kind(each) for each in x]
        def f(): return kind([1, "a", [2]]), LEVEL.get(), NONE.get(None), SET.get()
        data = seen(f)[1]
        def far(data):
            program = f"from _sheepdog_worker.wire.values import load; print(load({data!r})())"
            paths = [os.path.dirname(os.path.dirname(cloudpickle.__file__)), "there"]
            os.mkdir("there")
            os.symlink(CLIENT, "there/_sheepdog_worker")
            command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {paths!r}; {program}"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            return lambda: eval(said)
        import cloudpickle, os
        answer = BACK(data)()
    """
    found = ask(NEEDS + dedent(program).replace("BACK", back).replace("CLIENT", repr(str(CLIENT))), project)
    assert found == (["int", "any", ["int"]], 3, None, 5)


def test_what_cannot_be_copied_goes_by_the_name_that_a_module_has_for_it(project: Path) -> None:
    """As after `from config import LOCK` in a script."""
    write(
        project,
        {"config.py": "import threading, contextvars\nLOCK = threading.Lock()\nV = contextvars.ContextVar('v')"},
    )
    program = """
        from config import LOCK, V
        import config, threading
        def f(): return LOCK, V
        lock, var = load(seen(f)[1])()
        answer = [lock is LOCK, var is V]
        OWN = threading.Lock()
        try:
            seen(lambda: OWN)
        except TypeError as error:
            answer.append(str(error))
    """
    assert ask(NEEDS + dedent(program), project) == [True, True, "cannot pickle '_thread.lock' object"]
