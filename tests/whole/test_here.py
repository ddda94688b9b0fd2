"""What is here stays as it is, whatever is loaded: classes of every kind, by every door."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults import fault

pytestmark = pytest.mark.usefixtures("place")

KINDS = """
import abc, dataclasses, enum
from typing import Generic, TypeVar

DT = 1.0
T = TypeVar("T")

class Base:
    made = 0
    hooks = []
    def __init_subclass__(cls): Base.hooks.append(cls.__name__)
    def dt(self): return DT

class Plain(Base):
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is type(self) and other.x == self.x

@dataclasses.dataclass
class Data(Base):
    x: float

@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int
    def dt(self): return DT

class Colour(enum.Enum):
    RED = 1
    def dt(self): return DT

class Wrong(Exception):
    def dt(self): return DT

class Abstract(abc.ABC):
    @abc.abstractmethod
    def dt(self): ...

class Concrete(Abstract):
    def dt(self): return DT
    def __eq__(self, other): return type(other) is type(self)

class Box(Generic[T]):
    def dt(self): return DT
    def __eq__(self, other): return type(other) is type(self)

class Outer:
    class Inner:
        def dt(self): return DT
        def __eq__(self, other): return type(other) is type(self)

class Inner: pass

class Bare:
    __slots__ = ("x", "__hidden")
    def __init__(self): self.x, self.__hidden = 1, 2
    def dt(self): return DT if self.__hidden == 2 and not hasattr(self, "__dict__") else None
    def __eq__(self, other): return type(other) is type(self) and self.x == other.x

def named(): return DT

VALUES = [Plain(1), Data(2.0), Slotted(3), Colour.RED, Concrete(), Box(), Outer.Inner(), named, Bare()]
CLASSES = [Base, Plain, Data, Slotted, Colour, Wrong, Abstract, Concrete, Box, Outer, Outer.Inner, Bare]

def look():
    found = [{name: id(value) for name, value in vars(each).items() if name[:4] != "_abc"} for each in CLASSES]
    for names in found:
        names.pop("__slotnames__", None)  # pickle itself makes these
    return found

def change(): Base.made += 1; Plain.dt = lambda self: "there"; Base.extra = 1

def same(value):
    change()
    return value

def tell(value, controller):
    change()
    controller.report(value)

def fail(value):
    change()
    raise Wrong(value)

def dt_of(value): return value.dt() if hasattr(value, "dt") else value()
"""

DOORS = {
    "map": "found = sheepdog.map(m.same, [(v,) for v in m.VALUES])",
    "imap": "found = list(sheepdog.imap(m.same, [(v,) for v in m.VALUES]))",
    "Executor": """
with sheepdog.Executor() as executor:
    found = list(executor.map(m.same, m.VALUES))
""",
    "Job": """
jobs = [sheepdog.Job(target=m.same, args=(v,)) for v in m.VALUES]
sheepdog.dispatch_jobs(jobs)
found = [job.result() for job in jobs]
""",
    "joblib": """
import joblib, sheepdog.joblib
with joblib.parallel_config("sheepdog", n_jobs=2):
    found = joblib.Parallel()(joblib.delayed(m.same)(v) for v in m.VALUES)
""",
    "reports": """
sheepdog.map(m.tell, [(v,) for v in m.VALUES])
found = [value for _, value in sheepdog.get_reports(1, "sheepdog.sqlite")]
found.sort(key=lambda value: [*map(type, m.VALUES)].index(type(value)))
""",
    "raised": """
found = [error.args[0] for error in sheepdog.imap(m.fail, [(v,) for v in m.VALUES], return_exceptions=True)]
assert all(type(e) is m.Wrong for e in sheepdog.imap(m.fail, [(1,)], return_exceptions=True))
""",
    "arguments": """
sheepdog.map(m.same, [(v,) for v in m.VALUES])
found = [args[0] for args, _ in sheepdog.get_results(1, "sheepdog.sqlite")]
""",
    "another process": """
sheepdog.map(m.same, [(v,) for v in m.VALUES])
program = sys.argv[:1] + ["later"]
done = subprocess.run([sys.executable, *program], capture_output=True, text=True)
assert not done.returncode, done.stderr
print(done.stdout)
sys.exit()
""",
}

CHECK = """
assert m.look() == before, [a.keys() ^ b.keys() or [k for k in a if a[k] != b[k]] for a, b in zip(m.look(), before)]
assert len(m.Base.hooks) == hooks, m.Base.hooks
m.DT = 2.0
sent = sheepdog.map(m.dt_of, [(v,) for v in found])
print(json.dumps([[a == b and type(a) is type(b) for a, b in zip(found, m.VALUES)], sent]))
"""


def run(door: str, kinds: str, module: str) -> Any:
    Path("script.py").write_text(
        f"import json, subprocess, sys\nimport sheepdog\n{kinds}\nimport {module} as m\n"
        "before = m.look()\nhooks = len(m.Base.hooks)\n"
        "if sys.argv[1:]:\n"
        "    found = [result for _, result in sheepdog.get_results(1, 'sheepdog.sqlite')]\n"
        f"else:\n    {door.strip().replace(chr(10), chr(10) + '    ')}\n" + CHECK
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@fault(
    "second call",
    "a value comes home whose class is here: plain, dataclass, enum, exception, base class, in a module or the script",
    promise="the class that is here is taken, and nothing of it changes; the next map sends it as it is now",
)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("door", "home"),
    [*((door, "__main__") for door in DOORS), ("map", "kinds"), ("raised", "kinds"), ("another process", "kinds")],
)
def test_loading_changes_nothing(door: str, home: str) -> None:
    if home == "kinds":
        Path("kinds.py").write_text(KINDS)
        same, sent = run(DOORS[door], "", "kinds")
    else:
        same, sent = run(DOORS[door], KINDS, "__main__")
    assert same == [True] * 9
    assert sent == [2.0] * 9


@fault(
    "second call",
    "a module's constant changes between two maps over what the first returned",
    promise="each map sees it as it is then",
)
def test_a_constant_is_what_it_is_now() -> None:
    Path("sim.py").write_text(
        "from dataclasses import dataclass\n"
        "DT = 1.0\n"
        "@dataclass\n"
        "class State:\n"
        "    x: float\n"
        "    def advance(self): return State(self.x + DT)\n"
        "def step(s): return s.advance()\n"
    )
    Path("script.py").write_text(
        "import sheepdog, sim\n"
        "s = sim.State(0.)\n"
        "for sim.DT in (1.0, .5, .25): s = sheepdog.map(sim.step, [(s,)], verbose=False)[0]\n"
        "print(s)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("State(x=1.75)\n", "")
