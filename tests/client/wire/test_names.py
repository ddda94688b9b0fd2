"""What other Pythons call things by: of the standard library, both ways, with each Python that is here."""

import io
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.client import load
from sheepdog.client.wire.names import find_name, others
from tests.faults import fault
from tests.local import ROOT

VALUES = """
    pathlib.Path("x")  pathlib.PurePosixPath("x")  pathlib.PureWindowsPath("x")  [pathlib.Path("/a/b").parent]
    datetime.datetime(2020,1,1,tzinfo=datetime.timezone.utc)  datetime.date(2020,1,1)  datetime.timedelta(1)
    decimal.Decimal("1.5")  fractions.Fraction(1,2)  uuid.UUID(int=5)  ipaddress.ip_address("1.2.3.4")
    collections.OrderedDict(a=1)  collections.defaultdict(int,a=1)  collections.deque([1])  collections.Counter("ab")
    re.compile("a+")  re.error("x")  re.RegexFlag(2)  array.array("d",[1.0])  range(3)  slice(1,2)  iter([1])
    functools.partial(abs,1)  functools.reduce  operator.add  operator.itemgetter(1)  types.SimpleNamespace(a=1)
    complex(1,2)  bytearray(b"a")  Ellipsis  NotImplemented  type(None)  io.StringIO("a")  io.BytesIO(b"a")
    time.gmtime(0)  random.Random(1)  subprocess.CompletedProcess([1],0)  subprocess.CalledProcessError(1,"a")
    json.JSONDecodeError("m","d",0)  socket.timeout("x")  socket.AF_INET  signal.SIGTERM  http.HTTPStatus.OK
    asyncio.TimeoutError()  asyncio.CancelledError()  concurrent.futures.TimeoutError()  queue.Empty()  queue.Full()
    pickle.PicklingError("x")  struct.error("x")  sqlite3.OperationalError("x")  ssl.SSLError(1,"x")  zlib.error("x")
    xml.etree.ElementTree.fromstring("<a/>")  argparse.Namespace(a=1)  logging.getLogger("a")
    heapq.heappush  bisect.bisect  math.sqrt  json.dumps  OSError(2,"x")  TimeoutError(1,"x")  KeyError("x")
"""

PROGRAM = """
import argparse, array, asyncio, bisect, collections, concurrent.futures, datetime, decimal, fractions, functools, heapq
import http, io, ipaddress, json, logging, math, operator, pathlib, pickle, queue, random, re, signal, socket, sqlite3
import ssl, struct, subprocess, sys, time, types, typing, uuid, warnings, xml.etree.ElementTree, zlib
sys.path.insert(0, sys.argv[1])
from client.wire.values import load
warnings.simplefilter("error", DeprecationWarning)
said = pickle.load(sys.stdin.buffer)
for text, data in said.items():
    try:
        load(data)
    except Exception as error:
        sys.stderr.write("%s: %s: %s\\n" % (text, type(error).__name__, error))
sys.stdout.buffer.write(pickle.dumps({text: pickle.dumps(eval(text), 4) for text in said}, 4))
"""


def exchange(python: str, values: dict[str, bytes]) -> dict[str, bytes]:
    """Load values with another Python, and return them as it dumps them."""
    command = [python, "-I", "-S", "-c", PROGRAM, str(ROOT / "src/sheepdog")]
    done = subprocess.run(command, input=pickle.dumps(values, 4), capture_output=True)
    assert done.stderr.decode() == ""
    found = pickle.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@fault(49, "a type that another Python keeps elsewhere, as pathlib of 3.13", promise="it is found, either way")
def test_standard_types_travel_both_ways(each_python: Path) -> None:
    texts = re.split(r"\s{2,}", VALUES.strip())
    ours = exchange(sys.executable, dict.fromkeys(texts, pickle.dumps(None)))
    for text, data in exchange(str(each_python), ours).items():
        assert type(load(data)).__name__ == type(load(ours[text])).__name__, text


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("pathlib._local", "PosixPath", [("pathlib", "PosixPath")]),
        ("_queue", "Empty", [("queue", "Empty")]),
        ("numpy._core.multiarray", "scalar", [("numpy.core.multiarray", "scalar"), ("numpy", "scalar")]),
        ("numpy.core.multiarray", "scalar", [("numpy._core.multiarray", "scalar")]),
        ("asyncio.exceptions", "CancelledError", [("asyncio", "CancelledError")]),
        ("re", "PatternError", [("re", "error")]),
        ("own", "gone", []),
        ("__main__", "f", []),
    ],
)
def test_where_else_a_name_may_be(module: str, name: str, expected: list[tuple[str, str]]) -> None:
    assert list(others(module, name)) == expected


def test_an_operator_of_a_newer_python_is_stood_in_for() -> None:
    def look_up(module: str, name: str) -> object:
        if module == "_operator":
            raise AttributeError(name)
        return pickle.Unpickler(io.BytesIO()).find_class(module, name)

    assert find_name(look_up, "_operator", "call")(max, 1, 2, key=abs) == 2


def test_what_is_nowhere_is_said_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such'"):
        load(b"\x80\x04\x8c\x0fno_such._inside\x8c\x01x\x93.")
