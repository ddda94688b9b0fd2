"""Which Python runs what another has made: kinds of functions, by name and by value, from each host to each worker.

`python -m tests.pythons` prints the table. Each cell is tried as a worker does it: the form says whether a Python may
have a function, another Python than the host's tries it first, then it is called, and the host loads what came back.
"""

import argparse
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sheepdog.schedulers.archives import cloudpickle_archive, worker_archive
from sheepdog.values.forms import Form, choose
from tests.local import ROOT

HOSTS = range(11, 14)
WORKERS = range(6, 14)
PYPY = os.environ.get("PYPY") or shutil.which("pypy3")
WAYS = ("by name", "by value")

KINDS = """
import abc, collections, datetime, decimal, enum, functools, pathlib, re

SCALE = 3
TABLE = {"a": 1}

def scaled(x): return SCALE * x
def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
def options(x, y=5, *more, z=7, **rest): return x, y, more, z, sorted(rest)
def total(n): return sum(each * each for each in range(n))
def lazily(text):
    import json
    return json.loads(text)
def state(x):
    TABLE["b"] = x
    return sorted(TABLE.items())
def standard(path):
    return path / "x", datetime.date(2020, 1, 2), decimal.Decimal("1.5"), re.compile("a+"), collections.Counter("aab")

def adding(n):
    return lambda x: x + n
def noted(f):
    @functools.wraps(f)
    def inner(*args): return f(*args) + 1
    return inner
@noted
def decorated(x): return 10 * x
@functools.lru_cache(maxsize=None)
def cached(x): return -x
@functools.singledispatch
def dispatched(x): return "any"
@dispatched.register(int)
def of_int(x): return "int"

class Point(object):
    __slots__ = ("x", "y")
    def __init__(self, x, y=0): self.x, self.y = x, y
    def __repr__(self): return "Point(%r, %r)" % (self.x, self.y)
    def __call__(self, k): return Point(k * self.x, self.y)
    def moved(self, k): return Point(self.x + k, self.y)
    @classmethod
    def make(cls, x): return cls(x)
    @staticmethod
    def twice(x): return 2 * x
Pair = collections.namedtuple("Pair", "left right")
class Colour(enum.Enum):
    RED = 1
    BLUE = 2
class Wrong(ValueError):
    def __init__(self, text, number):
        super(Wrong, self).__init__(text, number)
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): "What it covers."
class Square(Shape):
    side = 2
    def area(self): return self.side ** 2

def pair(x): return Pair(x, [x])
def other(colour): return Colour.BLUE if colour is Colour.RED else Colour.RED
def wrong(x): return Wrong("so", x)
def failing(x): raise Wrong("raised", x)
def area(shape): return shape.area()

KINDS = {
    "a function": (scaled, (2,)),
    "recursion": (factorial, (5,)),
    "keywords and defaults": (options, (1, 2, 3)),
    "a generator inside": (total, (4,)),
    "an import inside": (lazily, ("[1, 2]",)),
    "a global that it changes": (state, (2,)),
    "standard types": (standard, (pathlib.PurePosixPath("/a"),)),
    "a built-in": (abs, (-3,)),
    "a lambda": (lambda x: x + SCALE, (1,)),
    "a closure": (adding(4), (1,)),
    "a decorated function": (decorated, (1,)),
    "a cached function": (cached, (1,)),
    "single dispatch": (dispatched, (1,)),
    "a partial": (functools.partial(options, 1, z=2), (3,)),
    "a method": (Point(1, 2).moved, (3,)),
    "a class method": (Point.make, (3,)),
    "a static method": (Point.twice, (3,)),
    "an object that can be called": (Point(1, 2), (3,)),
    "a class, with slots": (Point, (1, 2)),
    "a named tuple": (pair, (1,)),
    "an enumeration": (other, (Colour.RED,)),
    "an exception as a result": (wrong, (1,)),
    "an exception that is raised": (failing, (1,)),
    "an abstract class": (area, (Square(),)),
}
"""

HOST = """
import pickle, sys
sys.path[:0] = PATHS
from sheepdog.bundle.outgoing import Outgoing
from sheepdog.client.bundle import bundle_of, folder_of, unpack
from sheepdog.client.wire.calls import names_in
from sheepdog.values.serialisation import deserialise, form, serialise_arguments, serialise_function
place, way, verb = sys.argv[1:]
if way == "by name":
    from kinds import KINDS
else:
    exec(compile(open(place + "/kinds.py").read(), place + "/script.py", "exec"))

def pack(f, args):
    outgoing = Outgoing()
    function, namespace = serialise_function(f, None, outgoing.pickler)
    [call] = serialise_arguments([args], outgoing.dump)
    needed = outgoing.look()
    named = {bytes.fromhex(path[-64:]): make() for path, make in needed.files.items()}
    for manifest in filter(None, map(named.get, names_in(needed.before))):
        bundle = bundle_of(manifest)
        unpack(named.pop(bundle), folder_of(place + "/job", bundle), bundle.hex())
    made = form(outgoing.needs.by_value, outgoing.needs.looked_up())
    return made, (made["form"], needed.before + function, namespace, place + "/job", named, call)

def verdict(kind, outcome):
    f, args = KINDS[kind]
    number, value = outcome
    try:
        expected = f(*args)
    except Exception as error:
        expected, value = error, value.partition(b"\\0")[2]
    found = deserialise(value)
    return "right" if type(found) is type(expected) and repr(found) == repr(expected) else repr(found)

said = pickle.load(sys.stdin.buffer)
if verb == "pack":
    answer = {kind: pack(*KINDS[kind]) for kind in KINDS}
else:
    answer = {}
    for kind, outcome in said.items():
        try:
            answer[kind] = verdict(kind, outcome)
        except Exception as error:
            answer[kind] = "%s: %s: %r" % (type(error).__name__, error, outcome[1][:300])
sys.stdout.buffer.write(pickle.dumps(answer, 4))
"""

WORKER = """
import os, pickle, sys, types
sys.path.insert(0, sys.argv[1])
from _sheepdog_worker.child.target import Target
from _sheepdog_worker.wire.pythons import describe_python
sys.path[0] = sys.argv[2]
sys.modules["__main__"] = types.ModuleType("__main__")
def work(form, function, namespace, directory, named, call, names):
    target = Target(function, namespace, lambda: None, lambda: None, form, directory, names is None)
    target.named.update(named)
    problem = "" if names is None else target.try_out(names)
    return problem or target(call)[:2]
def apart(request):
    there, back = os.pipe()
    if not os.fork():
        with open(back, "wb") as file:
            file.write(pickle.dumps(work(*request), 4))
        os._exit(0)
    os.close(back)
    with open(there, "rb") as file:
        data = file.read()
    os.wait()
    return pickle.loads(data) if data else "its process ended"
asked = pickle.load(sys.stdin.buffer)
answer = describe_python() if asked is None else {kind: apart(request) for kind, request in asked.items()}
sys.stdout.buffer.write(pickle.dumps(answer, 4))
"""


class Cell(NamedTuple):
    """What came of a kind of function, sent by a host to a worker."""

    host: str
    worker: str
    kind: str
    way: str
    verdict: str
    """"right", "refused", or what was wrong."""
    why: str = ""


def python_of(minor: int) -> str | None:
    """Return the newest Python 3.minor beside this one, or on PATH; None if there is none."""
    beside = sorted(Path(sys.base_prefix).parent.glob(f"3.{minor}.*/bin/python3"))
    return str(beside[-1]) if beside else shutil.which(f"python3.{minor}")


def run(python: str, program: str, *arguments: str, given: object = None) -> Any:
    """Run a program that reads a pickle and writes one."""
    command = [python, "-I", "-S", "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, input=pickle.dumps(given, 4), capture_output=True, cwd="/")
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def cells(hosts: Iterable[str], workers: Iterable[str], place: Path) -> Iterable[Cell]:
    """Yield what comes of each kind, both ways, from each host's Python to each worker's."""
    for name, data in (("cloudpickle", cloudpickle_archive()), ("worker", worker_archive())):
        zipfile.ZipFile(io.BytesIO(data)).extractall(place / name)
    (place / "mine").mkdir()
    (place / "mine/kinds.py").write_text(KINDS)
    mine = str(place / "mine")
    paths = [mine, str(ROOT / "src"), str(place / "cloudpickle")]
    there = (str(place / "worker"), str(place / "cloudpickle"))
    facts = {worker: run(worker, WORKER, *there) for worker in workers}
    for host in hosts:
        for way in WAYS:
            program = HOST.replace("PATHS", repr(paths))
            packed = run(host, program, mine, way, "pack")
            for worker, python in facts.items():
                asked, found = {}, {}
                for kind, (made, request) in packed.items():
                    form = choose([Form.read(made)], python, "the node")
                    if isinstance(form, str):
                        found[kind] = form
                    else:
                        asked[kind] = (*request, None if form.made_by(python) else form.names)
                found.update(run(worker, WORKER, *there, given=asked))
                back = {kind: outcome for kind, outcome in found.items() if not isinstance(outcome, str)}
                verdicts = run(host, program, mine, way, "check", given=back)
                for kind, outcome in found.items():
                    said = verdicts.get(kind, "refused")
                    yield Cell(host, worker, kind, way, said, outcome if isinstance(outcome, str) else "")


def short(python: str) -> str:
    """Return a Python's version as the table shows it."""
    found = re.search(r"3\.\d+", python.rpartition("/bin/")[0] or python) or re.search(r"3\.\d+", python)
    return "PyPy" if "pypy" in python else found[0] if found else python


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=__doc__)
    parser.add_argument("--all", action="store_true", help="each kind that was refused, and why")
    options = parser.parse_args()
    hosts = [python for python in map(python_of, HOSTS) if python]
    workers = [python for python in map(python_of, WORKERS) if python]
    absent = [f"3.{minor}" for minor in WORKERS if not python_of(minor)] + ["PyPy"] * (not PYPY)
    with tempfile.TemporaryDirectory() as place:
        found = [*cells(hosts, [*workers, *filter(None, [PYPY])], Path(place))]
    kinds = {cell.kind for cell in found}
    print(
        f"{len(kinds)} kinds of functions, by name and by value: how many were right, and refused before a task ran\n"
    )
    print(f"{'worker':8}" + "".join(f"{'host ' + short(host) + ' ' + way:^26}" for host in hosts for way in WAYS))
    for worker in dict.fromkeys(cell.worker for cell in found):
        line = f"{short(worker):8}"
        for host in hosts:
            for way in WAYS:
                count = Counter(
                    cell.verdict if cell.verdict in ("right", "refused") else "wrong"
                    for cell in found
                    if (cell.host, cell.worker, cell.way) == (host, worker, way)
                )
                line += f"{', '.join(f'{number} {what}' for what, number in count.items()):^26}"
        print(line)
    for name in absent:
        print(f"{name:8}not here")
    wrong = [cell for cell in found if cell.verdict not in ("right", "refused")]
    for cell in found if options.all else wrong:
        if cell.verdict != "right":
            print(short(cell.host), "->", short(cell.worker), cell.way, cell.kind, cell.verdict, cell.why)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
