"""The whole way: what is here is what is there. And the second time it is found at once."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sheepdog.bundle import bundle, imports
from sheepdog.bundle.bundle import Bundles, chosen
from sheepdog.bundle.needs import Needs
from sheepdog.errors import ConfigError
from tests.bundle.projects import SIM, ask, over_there, write

PACKAGE = {
    "pkg/__init__.py": "from . import a",
    "pkg/a.py": "import threading, pkg.b\nLOCK = threading.Lock()\ndef one():\n    return pkg.b.two() + 1\n",
    "pkg/b.py": """
        import functools, pathlib
        from pkg import a
        from . import lazy
        HERE = str(pathlib.Path(__file__).parent)
        @functools.singledispatch
        def kind(x): return "any"
        @kind.register
        def _(x: int): return "int"
        def two():
            import helpers
            return helpers.table() + len(open(HERE + "/data.txt").read()) + len(kind(1))
    """,
    "pkg/lazy.py": "",
    "pkg/data.txt": "12345",
    "helpers.py": """
        from pathlib import Path
        def table():
            return len((Path(__file__).parent / "table.csv").read_text())
    """,
    "table.csv": "a,b",
    "other.csv": "x" * 100,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", {})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that this process can import, none of which it imports."""
    folder = write(tmp_path / "here", {"bundled_one.py": "import bundled_two", "bundled_two.py": ""})
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


NEEDS = Needs({"bundled_one"})


# Found here


def files_of(found: bundle.Bundle) -> list[str]:
    return [Path(path).name for path in found.contents.files]


def test_what_is_as_it_was_is_not_looked_at_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheepdog.bundle.stamps.SETTLED", -1.0)
    bundles, made = Bundles(), []
    follow = imports.follow
    monkeypatch.setattr(bundle, "follow", lambda *given: made.append(given) or follow(*given))
    first = bundles.find(NEEDS)
    (here / "data.log").write_text("nobody asked for it")
    assert bundles.find(NEEDS) is first
    assert len(made) == 1
    assert files_of(first) == ["bundled_one.py", "bundled_two.py"]
    assert first.contents.roots == (str(here),)


@pytest.mark.parametrize("settled", [-1.0, 2.0])
@pytest.mark.parametrize(
    ("change", "files"),
    [
        ("other words", ["bundled_one.py", "bundled_two.py"]),
        ("another import", ["bundled_one.py", "bundled_three.py"]),
        ("a package hides it", ["bundled_one.py", "__init__.py"]),
        ("it is gone", ["bundled_one.py"]),
    ],
)
def test_what_has_changed_is_another_bundle(
    here: Path, monkeypatch: pytest.MonkeyPatch, change: str, files: list[str], settled: float
) -> None:
    monkeypatch.setattr("sheepdog.bundle.stamps.SETTLED", settled)
    bundles = Bundles()
    first = bundles.find(NEEDS)
    if change == "other words":
        (here / "bundled_two.py").write_text("a = 1")
    elif change == "another import":
        write(here, {"bundled_three.py": "", "bundled_one.py": "import bundled_three"})
    elif change == "a package hides it":
        write(here, {"bundled_two/__init__.py": ""})
    else:
        (here / "bundled_two.py").unlink()
    sys.path_importer_cache.clear()
    second = bundles.find(NEEDS)
    assert second.name != first.name
    assert files_of(second) == files


def test_what_else_is_shipped(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    write(here, {"bundled_three.py": "import bundled_four", "bundled_four.py": "", "data/a.csv": "", "b.csv": ""})
    found = Bundles().find(NEEDS, ["bundled_three", Path("data"), str(here / "b.csv")])
    names = ["b.csv", "bundled_four.py", "bundled_one.py", "bundled_three.py", "bundled_two.py", "a.csv"]
    assert files_of(found) == names
    assert files_of(Bundles().find(NEEDS, False)) == []
    assert files_of(Bundles().find(NEEDS, True)) == ["bundled_one.py", "bundled_two.py"]


@pytest.mark.parametrize(
    ("ship", "words"),
    [
        ("data", "ship is 'data'; it must be a list"),
        (3, "ship is 3; it must be a list"),
        ([3], "ship has 3, a int; it must be a path or the name of a module"),
        (["nothing.csv"], r"ship has 'nothing\.csv'; there is no file /.*/nothing\.csv, and no module of this name"),
        (
            ["*.csv"],
            r"ship has '\*\.csv'; there is no file /.*, and patterns are not expanded: give the folder, or \*glob",
        ),
        (["/dev/null"], "ship has '/dev/null'; /dev/null is neither a file nor a folder, and cannot be shipped"),
        (["/proc/self/status"], "ship has '/proc/self/status', which the kernel makes whenever it is read: copy it"),
        (None, "ship is None; it must be a list"),
        (["pytest"], "ship has 'pytest', which is an installed package; ship takes your own files only"),
        (["json"], "ship has 'json', which is of the standard library, or built in: it cannot be shipped"),
    ],
)
def test_what_cannot_be_shipped(ship: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chosen(ship)


def test_the_paths_are_in_the_order_of_sys_path(tmp_path: Path) -> None:
    one = write(tmp_path / "z", {"first.py": "import second"})
    two = write(tmp_path / "a", {"second.py": "", "first.py": ""})
    program = """
        from sheepdog.bundle.bundle import Bundles
        from sheepdog.bundle.needs import Needs
        answer = Bundles().find(Needs({"first"})).contents.roots
    """
    assert ask(program, write(tmp_path / "project", {}), (str(one), str(two))) == (str(one), str(two))


# Over there

SEND = """
    from sending import send
    import sim
    sim.DT = .25
    send(sim.step, sim.State(1.5))
"""


@pytest.mark.slow
@pytest.mark.parametrize("by_value", [False, True], ids=["by name", "by value"])
def test_a_global_that_was_set(project: Path, by_value: bool) -> None:
    program = SEND.replace("(1.5)", f"(1.5), by_value={by_value}")
    assert over_there(project, {"sim.py": SIM}, program) == "State(x=1.75)"


@pytest.mark.slow
def test_a_global_that_was_set_under_a_condition(project: Path) -> None:
    """Which may not hold over there."""
    files = {"mine.py": "import os\nif 'FAST' in os.environ:\n    LEVEL = 3\ndef f(): return LEVEL\n"}
    program = "import os; os.environ['FAST'] = '1'; import mine; from sending import send; send(mine.f)"
    assert over_there(project, files, program) == "3"


@pytest.mark.slow
@pytest.mark.parametrize("value", ["Own.A", "Made.A", "[Made.A]", "Short.A", "Inner().A", "Main.A", "Listed.A"])
def test_a_member_of_an_enumeration_that_was_set(project: Path, value: str) -> None:
    """It is plain data if its class is a file's; else the module is what its file makes of it, and can be imported."""
    enumeration = "import enum\nclass {name}(enum.Enum):\n    A = 1\n"
    files = {
        "mine.py": "MODE, SIZE = None, 1\ndef f(): return SIZE, MODE",
        "own.py": enumeration.format(name="Own"),
        "short.py": enumeration.format(name="Short"),
        "listed.py": enumeration.format(name="Listed"),
    }
    program = f"""
        import cloudpickle, enum, listed, mine, os, sys, types
        from listed import Listed
        from own import Own
        from short import Short
        os.remove("short.py")
        cloudpickle.register_pickle_by_value(listed)
        made = sys.modules["made"] = types.ModuleType("made")
        exec("import enum\\nclass Made(enum.Enum): A = 1", made.__dict__)
        Made = made.Made
        class Main(enum.Enum):
            A = 1
        def Inner():
            class Inside(enum.Enum):
                A = 1
            return Inside
        mine.MODE, mine.SIZE = {value}, 2
        from sending import send
        send(lambda: mine.f(), ship=["own"])
    """
    assert over_there(project, files, program) == ("(2, <Own.A: 1>)" if value == "Own.A" else "(2, None)")


@pytest.mark.slow
def test_all_that_by_value_cannot(project: Path) -> None:
    program = """
        from sending import send
        import pkg.a
        def f(n):
            with pkg.a.LOCK:
                return n * pkg.a.one()
        made = send(f, 2)
        assert not any(path.endswith("other.csv") for path in made.contents.files)
    """
    assert over_there(project, PACKAGE, program) == str(2 * (3 + 5 + 3 + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        ("-m", "pkg.main"),
        ("-c", "import pkg.main; pkg.main.run()"),
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"),
        ("-i", "-c", "from pkg.main import run; run()"),
    ],
    ids=["python -m", "-c", "pytest", "-i"],
)
def test_however_the_program_is_run(project: Path, how: tuple[str, ...]) -> None:
    """What `python -m` runs is __main__, and goes by value; its imports are relative to its package."""
    main = """
        def work(n):
            from . import a
            from .b import HERE
            return n + a.one()
        def run():
            from sending import send
            send(work, 1)
        if __name__ == "__main__":
            run()
    """
    files = {**PACKAGE, "pkg/main.py": main, "test_it.py": "from pkg import main\ndef test_it(): main.run()\n"}
    assert over_there(project, files, "", *how).splitlines()[-1] == str(1 + 3 + 5 + 3 + 1)


@pytest.mark.slow
def test_pools_and_pickle_inside_a_task(project: Path) -> None:
    files = {
        "mine.py": """
            import multiprocessing, pickle
            class C:
                def __init__(self, x): self.x = x
            def double(c): return C(2 * c.x)
            def work(n):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    [c] = pool.map(double, [pickle.loads(pickle.dumps(C(n)))])
                return type(c) is C, c.x
        """
    }
    assert over_there(project, files, "from sending import send; import mine; send(mine.work, 4)") == "(True, 8)"


@pytest.mark.slow
def test_state_is_set_in_what_knows_it(project: Path) -> None:
    """A default, a class and another module have the same container, which is filled."""
    files = {
        "config.py": """
            import types
            OPTIONS = {"a": 1}
            NAMES = types.SimpleNamespace(x=1)
            def get(key, options=OPTIONS): return options[key]
            class C:
                options = OPTIONS
                size = 1
        """,
        "user.py": """
            from config import C, NAMES, OPTIONS
            def f():
                import config
                return OPTIONS["a"], config.get("a"), C.options["a"], C.size, OPTIONS is config.OPTIONS, NAMES.x
        """,
    }
    program = """
        import config, user
        from sending import send
        config.OPTIONS["a"], config.C.size, config.NAMES.x = 2, 3, 4
        send(user.f)
    """
    assert over_there(project, files, program) == "(2, 2, 2, 3, True, 4)"


@pytest.mark.slow
def test_a_zip_file_on_the_path(project: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as made:
        made.writestr("zipped.py", "import behind\ndef f(): return behind.g()\n")
    program = "from sending import send; import zipped; send(zipped.f)"
    said = over_there(project, {"behind.py": "def g(): return 5"}, program, path=(str(tmp_path / "lib.zip"),))
    assert said == "5"


@pytest.mark.slow
@pytest.mark.parametrize("below", ["", "src/"])
def test_a_package_in_a_zip_file(project: Path, tmp_path: Path, below: str) -> None:
    """It is followed as others are; what is on the path may be a folder in the file."""
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as made:
        made.writestr(f"{below}zp/__init__.py", "from . import a\n")
        made.writestr(f"{below}zp/a.py", "")
        made.writestr(f"{below}zp/deep/__init__.py", "import first\n")
        made.writestr(f"{below}zp/deep/b.py", "RATE = 1\ndef f():\n    import behind\n    return behind.g() + RATE\n")
    program = "from sending import send; import zp.deep.b as b; b.RATE = 5; send(b.f)"
    files = {"behind.py": "def g(): return 5", "first.py": ""}
    assert over_there(project, files, program, path=(str(tmp_path / "lib.zip" / below),)) == "10"


@pytest.mark.slow
def test_the_version_of_an_own_project_is_known_over_there(project: Path) -> None:
    files = {
        "src/own_pkg/__init__.py": "import importlib.metadata as m\nV = m.version('own-pkg')\ndef f(): return V\n",
        "src/own_pkg.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: own-pkg\nVersion: 1.5\n",
    }
    program = "from sending import send; import own_pkg; send(own_pkg.f)"
    assert over_there(project, files, program, path=(str(project / "src"),)) == "'1.5'"


@pytest.mark.slow
@pytest.mark.parametrize("called", ["mine.f, 'plug'", "lambda name: __import__(name).V, 'plug'", "mine.g, 'one'"])
def test_a_module_that_is_imported_by_a_name_that_is_made(project: Path, called: str) -> None:
    """If it has been imported here. What it imports goes along, too; but nothing if the name stands in the code."""
    files = {
        "mine.py": """
            import importlib
            def f(name): return __import__(name).V
            def g(name): return importlib.import_module(f"plugins.{name}").V
        """,
        "other.py": """
            from importlib import import_module
            def f(): return import_module("plugins.one", None).V
        """,
        "plug.py": "import behind\nV = 1\ndef f(): return V\n",
        "behind.py": "",
        "plugins/__init__.py": "",
        "plugins/one.py": "V = 4",
    }
    program = f"""
        import mine, other, plug, plugins.one
        from sending import send
        plug.V = 4
        assert "plug" not in send(other.f).modules
        made = send({called})
        assert {{"plug", "behind", "plugins.one"}} <= made.modules.keys()
    """
    assert over_there(project, files, program) == "4"


@pytest.mark.slow
def test_a_traceback_names_the_file_here(project: Path) -> None:
    files = {"wrong.py": "\n\ndef f():\n    1 / 0\n"}
    said = over_there(project, files, "from sending import send; import wrong; send(wrong.f)")
    assert f'File "{project}/wrong.py", line 4, in f' in said
    assert "1 / 0" in said


@pytest.mark.slow
def test_a_result_is_of_the_very_class(project: Path) -> None:
    """Whichever process of the user's loads it."""
    assert over_there(project, {"sim.py": SIM}, SEND) == "State(x=1.75)"
    program = """
        import pickle, sys
        result = pickle.load(open("../to/result", "rb"))
        import sim
        answer = type(result) is sim.State, result.x
    """
    assert ask(program, project.parent / "away") == (True, 1.75)


@pytest.mark.slow
@pytest.mark.parametrize("called", ["sim.step, sim.State(1.5)", "lambda s: sim.step(s), sim.State(1.5)"])
def test_a_module_that_cannot_be_imported_there(project: Path, tmp_path: Path, called: str) -> None:
    """What is named of it goes by value, too, and stands in; what comes home is of the very class."""
    only_here = write(tmp_path / "only_here/site-packages", {"plots.py": ""})
    files = {"sim.py": f"import plots\n{SIM}", "pkg/__init__.py": "open('machine.txt')", "machine.txt": ""}
    program = SEND.replace("sim.step, sim.State(1.5)", called)
    said = over_there(project, files, program, path=(str(only_here),))
    assert said == "State(x=1.75)\nby value: sim ModuleNotFoundError: No module named 'plots'"
    program = """
        import pickle, sim
        from sheepdog.client import load
        result = load(open("../to/result", "rb").read())
        answer = type(result) is sim.State, result.x
    """
    assert ask(program, project.parent / "away", (str(only_here),)) == (True, 1.75)


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_there(project: Path, tmp_path: Path) -> None:
    files = {
        "pkg/__init__.py": f"open({str(project)!r} + '/machine.txt').close()",
        "pkg/sub.py": "N = 1\ndef f(): return N",
        "machine.txt": "",
    }
    said = over_there(project, files, "import pkg.sub; pkg.sub.N = 2; from sending import send; send(pkg.sub.f)")
    assert said.startswith("2\nby value: pkg FileNotFoundError: ")


@pytest.mark.slow
@pytest.mark.parametrize("change", [False, True])
def test_what_modules_have_in_common_stays_so(project: Path, change: bool) -> None:
    """Nothing was set, and nothing is cut: arrays, deques, and what is in a container."""
    files = {
        "a.py": """
            import collections, array
            LINE, NUMBERS, INNER = collections.deque(), array.array("i", [0]), {"x": []}
        """,
        "b.py": """
            from a import INNER, LINE, NUMBERS
            X = INNER["x"]
            def fill(numbers=NUMBERS): LINE.append(1); numbers[0] = 1; X.append(1)
        """,
        "c.py": """
            import b
            from a import INNER, LINE, NUMBERS
            def total(): b.fill(); return len(LINE), NUMBERS[0], len(INNER["x"])
        """,
    }
    changed = "a.LINE.append(0); a.INNER['x'].append(0)" if change else ""
    found = over_there(project, files, f"import a, c\nfrom sending import send\n{changed}\nsend(c.total)")
    assert found == ("(2, 1, 2)" if change else "(1, 1, 1)")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pkg.one.f", "later.f"])
def test_what_modules_do_when_they_are_imported_is_done_once(project: Path, how: str) -> None:
    """And from what the files of others say; whenever that is."""
    files = {
        "pkg/__init__.py": """
            NAMES, count, DT = [], 0, 1.0
            def register(name):
                global count
                if name in NAMES: raise ValueError(name)
                NAMES.append(name)
                count += 1
        """,
        "pkg/one.py": """
            from . import DT, register
            register("one")
            HALF = (lambda: DT / 2)()
            def f():
                import pkg
                return pkg.NAMES, pkg.count, pkg.DT, HALF
        """,
        "later.py": """
            def f():
                from pkg import one
                return one.f()
        """,
    }
    program = f"import later, pkg.one\nfrom sending import send\npkg.DT = 4.0\nsend({how})"
    assert over_there(project, files, program) == "(['one'], 1, 4.0, 0.5)"


@pytest.mark.slow
@pytest.mark.parametrize("called", ["short.f", "lambda x: short.f(x)", "user.f", "pkg.short.f"])
def test_a_module_whose_file_is_gone(project: Path, called: str) -> None:
    """What is used of it goes by value, also where another module imports it."""
    short = "import other\nK = 1\nclass C:\n    k = 2\ndef f(x): return g(x) + C().k\ndef g(x): return other.h(x) + K\n"
    files = {
        "short.py": short,
        "pkg/__init__.py": "",
        "pkg/short.py": short,
        "other.py": "def h(x): return x",
        "user.py": "import short\ndef f(x): return short.f(x)\n",
    }
    program = f"""
        import os, pkg.short, short, user
        os.remove("short.py"), os.remove("pkg/short.py")
        short.K = pkg.short.K = 5
        from sending import send
        send({called}, 1)
    """
    said = over_there(project, files, program).splitlines()
    assert said[-1 - (called == "user.f")] == "8", said
