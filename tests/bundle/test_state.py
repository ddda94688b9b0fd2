"""What was set in modules since they were imported."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.projects import ask, write
from tests.faults import fault

pytestmark = pytest.mark.slow  # each test starts a Python

COLLECT = """
import io, os, pickle, sys
from sheepdog.bundle import state, plain
from sheepdog.bundle.imports import follow
from sheepdog.client.state import Loader
%s
reached = follow(["sim"])
used = frozenset().union(*(look.names for look in reached.looks.values()))
watch = state.Watch(reached.own.values(), reached.looks, used, frozenset(), [os.getcwd()])
%s
found = watch.look()
answer = (
    {name: Loader(data, "/there").load() for name, data in found.modules.items()},
    [str(fact) for fact in found.facts],
)
"""
STATEFUL = """
import enum, threading
from helper import TABLE
DT = 1.0
UNUSED = 2
COMPUTED = len("abc")
LOCK = threading.Lock()
STEPS = [1, 2]
class Config:
    size = 1
    _hidden = 2
    __private = 3
    def get(self): return self.size, self._hidden, self.__private
class Kind(enum.Enum):
    A = 1
def step(): return DT, COMPUTED, LOCK, STEPS, Config, TABLE, Kind.A
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "project", {"sim.py": STATEFUL, "helper.py": "TABLE = {}\ndef f(): return TABLE"})


def collect(project: Path, first: str = "", then: str = "") -> Any:
    return ask(COLLECT % (first, then), project)


def test_a_module_that_is_not_imported_has_no_state(project: Path) -> None:
    assert collect(project) == ({}, [])


def test_what_its_file_sets_to_a_constant_is_left_out_while_it_is_that(project: Path) -> None:
    found, facts = collect(project, "import sim; sim.UNUSED = 3")
    assert found == {"sim": {"COMPUTED": 3, "STEPS": [1, 2], "TABLE": {}}, "helper": {"TABLE": {}}}
    assert facts == []


def test_what_was_set(project: Path) -> None:
    first = "import sim; sim.DT = .25; sim.STEPS.append(3); sim.TABLE['x'] = 1; sim.Config.size = 5; sim.NEW = 1"
    found, _ = collect(project, first)
    assert found["sim"] == {"DT": 0.25, "COMPUTED": 3, "STEPS": [1, 2, 3], "TABLE": {"x": 1}, "Config.size": 5}
    found, _ = collect(project, "import sim; sim.Config._Config__private = 4; sim.DT = 1")
    assert found["sim"]["Config._Config__private"] == 4
    assert repr(found["sim"]["DT"]) == "1"


@fault(
    "own modules",
    "a flag says whether an import has succeeded, or which Python this is",
    promise="it is what the file makes of it over there, unless it was set since",
)
@pytest.mark.parametrize(("first", "set_to"), [("", {}), ("sim.HAVE = False", {"HAVE": False})])
def test_what_goes_by_what_is_there(project: Path, first: str, set_to: dict[str, object]) -> None:
    text = """
        import sys
        try:
            import json as fast
            HAVE = True
        except ImportError:
            HAVE = False
        if sys.version_info >= (3, 99): WHICH = "new"
        else: WHICH = "old"
        def step(): return HAVE, WHICH
    """
    write(project, {"sim.py": text})
    assert collect(project, f"import sim; {first}") == ({"sim": set_to} if set_to else {}, [])


def test_what_was_set_to_something_that_is_not_plain_is_named(project: Path) -> None:
    """But not what a function of the module has made, as it will there."""
    text = """
        import typing
        OPTION = None
        _made = None
        class Pair(typing.NamedTuple):
            first: str = ""
        def get():
            global _made
            _made = object()
            return OPTION, Pair().first
    """
    write(project, {"sim.py": text})
    found, [fact] = collect(project, "import sim; sim.get(); sim.OPTION = object()")
    assert found == {}
    assert fact.startswith("OPTION in ")
    assert "was set to an object of object, which is no plain data" in fact


def test_what_its_file_set_before_it_was_changed_is_left_out(project: Path) -> None:
    write(project, {"sim.py": "N = 1\ndef step(): return N, 'old'"})
    then = """
watch.look()
import pathlib
pathlib.Path("sim.py").write_text("N = 2\\ndef step(): return N, 'new'")
reached = follow(["sim"])
watch = state.Watch(reached.own.values(), reached.looks, used, frozenset(), [os.getcwd()])
"""
    assert collect(project, "import sim", then) == ({}, [])


def test_what_is_too_large_is_named(project: Path) -> None:
    first = "import sim; state.MAX_STATE = 100; sim.DT = 'x' * 101; plain.MAX_PARTS = 50; sim.STEPS = [1] * 51"
    found, facts = collect(project, first)
    assert found["sim"] == {"COMPUTED": 3, "TABLE": {}}
    [one, two] = facts
    assert one.startswith(f"DT in {project}/sim.py is not set over there: it has 11")
    assert two.startswith(f"STEPS in {project}/sim.py is not set over there: it has more than 50 parts. It is what the")


def test_what_is_too_large_need_not_tell_its_length(project: Path) -> None:
    first = "import sim, types; plain.MAX_PARTS = 50; sim.STEPS = types.SimpleNamespace(x=[1] * 51)"
    _, facts = collect(project, first, "watch.look()")
    assert [fact.split()[0] for fact in facts] == ["STEPS"]


def test_what_says_that_something_was_made_is_left_with_it(project: Path) -> None:
    """Else it would be taken for made over there."""
    write(
        project,
        {
            "sim.py": """
                import threading
                ready, model, count, size = False, None, 0, 1
                def get():
                    global ready, model
                    if not ready:
                        ready, model = True, threading.Lock()
                    return model
                def more():
                    global count, size
                    count, size = count + 1, size + 1
            """
        },
    )
    assert collect(project, "import sim; sim.get(); sim.more()")[0] == {"sim": {"count": 1, "size": 2}}


def test_what_says_that_something_was_put_into_a_container_is_left_with_it(project: Path) -> None:
    write(
        project,
        {
            "sim.py": """
                import threading
                cache, ready, dt, log = {}, False, 1.0, None
                class DB:
                    connection, opened, size = None, False, 1
                    @classmethod
                    def get(cls):
                        cls.connection, cls.opened, cls.size = threading.Lock(), True, 2
                        return cls.connection, cls.opened, cls.size, log
                def get():
                    global ready
                    if not ready:
                        cache["model"], ready = threading.Lock(), True
                    return cache["model"]
                def configure(new):
                    global dt, log
                    dt, log = new, threading.Lock()
                    return dt
            """
        },
    )
    found = collect(project, "import sim; sim.get(); sim.DB.get(); sim.configure(.25)")[0]
    assert found == {"sim": {"dt": 0.25, "DB.size": 2}}


def test_a_folder_for_modules_is_what_the_file_says(project: Path) -> None:
    """Over there it is another one."""
    write(
        project,
        {"sim.py": "import os, pathlib; A, B = os.getcwd(), pathlib.Path(__file__).parent\ndef f(): return A, B"},
    )
    assert collect(project, "import sim")[0] == {}


def test_what_a_function_of_the_program_stands_in_for_is_named(project: Path) -> None:
    first = "import sim; sim.Config.get = lambda self: 1; sim.TABLE = lambda: 2; sim.UNUSED = lambda: 3"
    _, facts = collect(project, first)
    assert [fact.partition(" was replaced")[0] for fact in facts] == [f"TABLE in {project}/sim.py"]
    write(project, {"sim.py": f"{STATEFUL}\ndef use(): return Config().get()"})
    _, facts = collect(project, first)
    assert sorted(fact.split()[0] for fact in facts) == ["Config.get", "TABLE"]


def test_what_a_test_puts_in_a_functions_place_is_named(project: Path) -> None:
    write(project, {"test_sim.py": "def fake(): return 1"})
    first = "import sim, test_sim, unittest.mock; sim.TABLE = test_sim.fake; sim.STEPS = unittest.mock.Mock()"
    _, facts = collect(project, first)
    assert sorted(fact.split()[0] for fact in facts) == ["STEPS", "TABLE"]


def test_what_cannot_be_pickled_is_left_to_the_file(project: Path) -> None:
    found, _ = collect(project, "import sim; sim.DT = sim.LOCK; sim.STEPS = [sim.LOCK]")
    assert found["sim"] == {"COMPUTED": 3, "TABLE": {}}
    assert pickle.dumps(found)


LOOKED = """
before = watch.look()
assert watch.look() is before
%s
"""


def test_what_was_not_set_is_not_made_again(project: Path) -> None:
    assert collect(project, "import sim", LOOKED % "assert watch.look() is before")[0]["sim"]


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ("sim.DT = .5", "DT", 0.5),
        ("sim.STEPS = [1.0, 2]", "STEPS", [1.0, 2]),
        ("sim.STEPS[0] = True", "STEPS", [True, 2]),
        ("sim.TABLE['x'] = {1: []}", "TABLE", {"x": {1: []}}),
        ("sim.Config.size = 5", "Config.size", 5),
        ("sim.Config._hidden = None", "Config._hidden", None),
        ("del sim.Config.get; sim.Config.DT = [1]", "Config.DT", [1]),
        ("sim.Config = 3", "Config", 3),
        ("del sim.UNUSED; sim.LOCK = 1", "LOCK", 1),
        ("ODD.clear()", "STEPS", []),
        ("sim.__dict__.update(LATER=[1])", "LATER", [1]),
    ],
)
def test_what_was_set_since_the_last_look(project: Path, change: str, name: str, value: object) -> None:
    write(project, {"sim.py": f"{STATEFUL}\nODD = [LOCK]\ndef later(): return LATER"})
    first = "import sim; ODD = sim.ODD"
    if change.startswith("ODD"):
        first += "; sim.STEPS = ODD"
    found, _ = collect(project, first, LOOKED % change)
    assert repr(found["sim"][name]) == repr(value)


def test_a_module_that_is_imported_since_the_last_look(project: Path) -> None:
    assert collect(project, then=LOOKED % "import sim")[0]["sim"]
    again = "del sys.modules['sim']; import sim; sim.STEPS.append(sim.DT)"
    assert collect(project, "import sim", LOOKED % again)[0]["sim"]["STEPS"] == [1, 2, 1.0]


def test_what_is_no_longer_too_large(project: Path) -> None:
    first = "import sim; plain.MAX_PARTS = 50; sim.STEPS = [1] * 51"
    found, facts = collect(project, first, LOOKED % "del sim.STEPS[40:]")
    assert len(found["sim"]["STEPS"]) == 40
    assert facts == []


def test_what_was_made_since_the_last_look(project: Path) -> None:
    """What says so is left with it from then on."""
    write(
        project,
        {
            "sim.py": """
                import threading
                ready, model = False, None
                def get():
                    global ready, model
                    ready, model = True, threading.Lock()
            """
        },
    )
    assert collect(project, "import sim; sim.ready = 2")[0] == {"sim": {"ready": 2, "model": None}}
    assert collect(project, "import sim; sim.ready = 2", LOOKED % "sim.get()")[0] == {}
