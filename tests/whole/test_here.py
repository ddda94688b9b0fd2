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


CALLS = {
    "map": "def call(f, args): return sheepdog.map(f, args, C, verbose=False)",
    "imap": "def call(f, args): return list(sheepdog.imap(f, args, C, verbose=False))",
    "Executor": """
def call(f, args):
    with sheepdog.Executor(C) as executor:
        return [executor.submit(f, *each).result() for each in args]
""",
    "Job": """
def call(f, args):
    jobs = [sheepdog.Job(target=f, args=each) for each in args]
    sheepdog.dispatch_jobs(jobs, C)
    return [job.result() for job in jobs]
""",
    "joblib": """
import joblib, sheepdog.joblib
def call(f, args):
    return joblib.Parallel(n_jobs=2, backend="sheepdog", config=C)(joblib.delayed(f)(*each) for each in args)
""",
    "arguments": """
def call(f, args):
    request = sheepdog.map_async(callable, [(f(*each),) for each in args], C)
    return [args[0] for args, _ in sheepdog.get_results(request, "sheepdog.sqlite")]
""",
}


def output(*lines: str, verbose: bool = False) -> list[Any]:
    """Run a script; return what its lines say."""
    head = "import json, sys, sheepdog\nC = {'workers': 1}\n"
    Path("script.py").write_text(head + "\n".join(lines))
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert verbose or not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


ALIKE = """
import collections, enum

Row = collections.namedtuple("Row", "a b")
class Model:
    def predict(self, x): return 0
class Shape: pass

def rows(names):
    R = collections.namedtuple("Row", names)
    return R(*range(len(R._fields)))
def fit(k): return type("Model", (), {"predict": lambda self, x: k * x})()
def shape(names): return enum.Enum("Shape", names)

scales, keywords, tagged = [], [], []
for k in (1, 2, 3):
    def scale(x, k=k): return k * x
    def keyword(x, *, k=k): return k * x
    def tag(x): return x
    tag.k = k
    scales.append(scale); keywords.append(keyword); tagged.append(tag)
def do(what, x): return {"rows": rows, "fit": fit, "shape": shape}[what](x) if isinstance(what, str) else FS[what][x]
FS = [scales, keywords, tagged]

ROWS = ["b a", "x y z", "a b"]
asked = [("rows", names) for names in ROWS] + [("fit", 1), ("fit", 2), ("shape", "A B"), ("shape", "C")]
got = call(do, asked + [(what, i) for what in range(3) for i in range(3)])
found = [
    [list(r._asdict().items()) for r in got[:3]],
    [m.predict(10) for m in got[3:5]],
    [list(s.__members__) for s in got[5:7]],
    [f(10) for f in got[7:10]],
    [f(10) for f in got[10:13]],
    [f.k for f in got[13:]],
    [Model().predict(1), Row._fields, list(vars(Shape))[:1]],
]
print(json.dumps(found))
"""


@fault(
    "second call",
    "a task makes a class or a function of a name that something else has here, or that differs in its defaults only",
    promise="each result is of the class that its task made, and each function has its own defaults",
)
@pytest.mark.slow
@pytest.mark.parametrize("door", CALLS)
def test_what_is_only_called_alike_is_another(door: str) -> None:
    [found] = output(CALLS[door], ALIKE, verbose=True)
    assert found == [
        [[["b", 0], ["a", 1]], [["x", 0], ["y", 1], ["z", 2]], [["a", 0], ["b", 1]]],
        [10, 20],
        [["A", "B"], ["C"]],
        [10, 20, 30],
        [10, 20, 30],
        [1, 2, 3],
        [0, ["a", "b"], ["__module__"]],
    ]


@fault(
    "second call",
    "get_results in a program in which the class of that name is another, or the same",
    promise="the class is taken if it has the same fields, bases and code; else it is made anew",
)
@pytest.mark.slow
def test_another_program_has_another_class() -> None:
    code = "class Acc:\n    total = 0\n    def add(self, n): return n\n"
    output(
        f"{code}def make():\n    a = Acc()\n    a.x = 1\n    return a",
        "sheepdog.map(make, [()], C, verbose=False)",
    )
    look = (
        "[(_, a)] = sheepdog.get_results(1, 'sheepdog.sqlite')\n"
        "print(json.dumps([type(a) is Acc, a.x, a.add(2), sorted(vars(a)), hasattr(Acc, 'other')]))"
    )
    other = "class Acc:\n    other = True\n    def __init__(self, path): self.path = path\n"
    assert output(other, look) == [[False, 1, 2, ["x"], True]]
    assert output("\n" + code + "Acc.total = 5", look) == [[True, 1, 2, ["x"], False]]
    changed = code.replace("return n", "return -n")
    assert output(changed, look) == [[False, 1, 2, ["x"], False]]


RULES = """
import functools
DT = 1.0
def wrap(f):
    @functools.wraps(f)
    def w(*a): return f(*a)
    return w
def plain(): return DT
@wrap
def wrapped(): return DT
@functools.lru_cache(maxsize=None)
def cached(): return DT
anonymous = lambda: DT
class B:
    def m(self): return DT
RULES = [plain, wrapped, cached, anonymous, functools.partial(plain), B().m]
class State:
    def __init__(self, rule): self.rule, self.x = rule, 0.
    def advance(self):
        self.x += self.rule()
        return self
def make(i): return State(RULES[i])
def step(s): return s.advance()
"""


@fault(
    "second call",
    "a result holds a module, or a function that is decorated, cached, a lambda, in a partial or a method",
    promise="what is here is taken, so the next map sees it as it is then",
)
@pytest.mark.slow
@pytest.mark.parametrize("door", ["map", "Executor"])
def test_what_a_result_holds_is_what_is_here(door: str) -> None:
    Path("sim.py").write_text(RULES)
    Path("mod.py").write_text("DT = 1.0\nimport helper\n")
    Path("helper.py").write_text("import mod\n")
    found = output(
        CALLS[door],
        "import sim, mod",
        "class Model:\n    def __init__(self): self.mod, self.x = mod, 0.",
        "    def advance(self):\n        self.x += self.mod.DT\n        return self",
        "found = [*call(sim.make, [(i,) for i in range(6)]), Model()]",
        "for sim.DT in (1., .5, .25):",
        "    mod.DT = sim.DT",
        "    found = call(sim.step, [(each,) for each in found])",
        "print(json.dumps([[each.x, type(each) in (sim.State, Model)] for each in found] + [found[-1].mod is mod]))",
    )
    assert found == [[[1.75, True]] * 7 + [True]]


@pytest.mark.slow
def test_on_a_worker_too_what_is_there_is_taken() -> None:
    """So ns and `global` reach the methods of arguments, and a class keeps what tasks make of it; but news count."""
    Path("w.py").write_text(
        "DT = 1.0\n"
        "class State:\n"
        "    n, rate = 0, 1\n"
        "    def advance(self): return DT\n"
        "class Other(State): pass\n"
        "def step(s): return s.advance()\n"
        "def dt(s, value):\n    global DT\n    DT = value\n    return s.advance()\n"
        "def again(s): return s.advance()\n"
        "def count(s):\n    State.n += 1\n    return State.n\n"
        "def look(s): return type(s).rate, s.advance()\n"
    )
    found = output(
        "import w; s, o = w.State(), w.Other()",
        "def show(*values): print(json.dumps(values))",
        "show(*sheepdog.map(w.step, [(s,), (o,), (s,)], C, {'DT': .25}, verbose=False))",
        "show(*sheepdog.map(w.dt, [(s, .5), (o, .25)], C, verbose=False))",
        "show(*sheepdog.map(w.count, [(s,), (o,), (s,), (1,)], C, verbose=False))",
        "with sheepdog.Executor(C) as e:",
        "    show(*[e.submit(w.count, each).result() for each in (s, o, s, 1)])",
        "    show(*e.submit(w.look, s).result())",
        "    w.State.rate, w.DT = 2, .5; show(*e.submit(w.look, s).result())",
        "    w.State.rate, w.DT = 1, 1.; show(*e.submit(w.look, o).result())",
        "def lazily():",
        "    for w.State.rate, w.DT in ((1, 1.), (2, .5), (1, .25)): yield (s,)",
        "show(*sheepdog.imap(w.look, lazily(), C, verbose=False))",
    )
    assert found == [
        [0.25, 0.25, 0.25],
        [0.5, 0.25],
        [1, 2, 3, 4],
        [1, 2, 3, 4],
        [1, 1.0],
        [2, 0.5],
        [1, 1.0],
        [[1, 1.0], [2, 0.5], [1, 0.25]],
    ]


@pytest.mark.slow
@fault("second call", "a function holds a model that is trained", promise="it comes as it is")
def test_a_function_that_holds_values_is_there_as_it_is_here() -> None:
    Path("w.py").write_text(
        "class Model:\n"
        "    def __init__(self): self.weights = [0.0]\n"
        "    def fit(self): self.weights[0] += 1.0\n"
        "def predictor(model):\n"
        "    def predict(x): return model.weights[0] * x\n"
        "    return predict\n"
        "model = Model()\n"
        "predict = predictor(model)\n"
        "def score(f, *xs): return sum(map(f, xs))\n"
        "def same(f): return f\n"
    )
    found = output(
        "import w",
        "with sheepdog.Executor(C) as e:",
        "    for _ in range(3):",
        "        w.model.fit(); print(json.dumps(e.submit(w.score, w.predict, 1, 2).result()))",
        "    back = [e.submit(w.same, w.predict).result() for _ in range(2) if w.model.fit() is None]",
        "    print(json.dumps([each(1) for each in back] + [back[1] is w.predict]))",
        "def lazily():",
        "    for w.model.weights[0] in (1, 2, 3): yield w.predict, 10",
        "print(json.dumps(sheepdog.map(w.score, lazily(), C, verbose=False)))",
    )
    assert found == [3.0, 6.0, 9.0, [5.0, 5.0, True], [10, 20, 30]]
