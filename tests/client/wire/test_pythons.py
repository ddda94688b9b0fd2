"""Which Python made a code: another never runs it."""

import pickle
import subprocess
from pathlib import Path

import cloudpickle
import pytest

from sheepdog.client import describe_python, dump, load
from sheepdog.client.wire import pythons
from sheepdog.client.wire.pythons import HERE, OtherPython, code, no_cloudpickle
from sheepdog.values.serialisation import serialise_function
from tests.faults import fault
from tests.local import ROOT


@pytest.mark.parametrize(("place", "other"), [(0, "pypy"), (2, "00")])
def test_code_of_another_python_is_refused(place: int, other: str) -> None:
    """3.11, 3.12 and 3.13 would make the code, and run what is no bytecode of theirs."""
    made_by = [*HERE]
    made_by[place] = other
    with pytest.raises(OtherPython, match=r"let it be Python 3.* at both ends .*or put it into a module of your own"):
        code((made_by[0], made_by[1], made_by[2]))


def test_a_bugfix_release_is_no_other_python() -> None:
    function, _ = serialise_function(lambda x: x + 1)
    assert HERE[1].encode() in function
    assert load(function.replace(HERE[1].encode(), b"3" * len(HERE[1])))(1) == 2


def test_it_is_said_of_every_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of methods, of functions in functions, and whatever it is that is dumped."""
    values = [dump(each) for each in (lambda: lambda: 1, type("C", (), {"f": lambda self: self}), [lambda: 1])]
    monkeypatch.setattr(pythons, "HERE", (HERE[0], "3.99.1", "00"))
    for data in values:
        with pytest.raises(OtherPython, match=rf"{HERE[0]} {HERE[1]} has made, which {HERE[0]} 3\.99\.1 "):
            load(data)


LOAD = """
import pickle, sys
sys.path[:0] = sys.argv[1:]
from client.wire.values import dump, load
for data in pickle.load(sys.stdin.buffer):
    try:
        print(load(data))
    except Exception as error:
        print(type(error).__name__, error)
"""


@fault(49, "code of another Python comes to a worker", promise="it is not run; both versions and what to do are said")
def test_other_pythons_refuse_it(each_python: Path) -> None:
    values = [serialise_function(lambda: 1)[0], dump(abs)]
    command = [
        str(each_python),
        "-I",
        "-S",
        "-c",
        LOAD,
        str(ROOT / "src/sheepdog"),
        str(Path(cloudpickle.__file__).parents[1]),
    ]
    if each_python.parts[-3].startswith(HERE[1].rpartition(".")[0] + "."):
        pytest.skip("it is this one")
    done = subprocess.run(command, input=pickle.dumps(values, 4), capture_output=True, check=True)
    first, second = done.stdout.decode().splitlines()
    assert first.startswith("OtherPython it goes by value")
    assert f"{HERE[1]} has made, which cpython {each_python.parts[-3]} ({each_python})" in first
    assert second == "<built-in function abs>"


def test_what_needs_cloudpickle_is_refused_where_that_does_not_run() -> None:
    with pytest.raises(OtherPython, match=r"takes Python 3\.8 or newer"):
        no_cloudpickle()


def test_what_a_python_says_of_itself() -> None:
    assert (describe_python()["implementation"], describe_python()["version"], describe_python()["magic"]) == HERE
