"""The contract of forms: what goes in comes out and works there, whichever form it travels in."""

import functools
import importlib.util
import json
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from sheepdog import client
from sheepdog.bundle.outgoing import Outgoing
from sheepdog.client import BY_NAME, PICKLE
from sheepdog.client.function import LOADERS
from sheepdog.errors import SerialisationError
from sheepdog.values import serialisation
from sheepdog.values.forms import COMMON, Form, choose
from sheepdog.values.serialisation import (
    form,
    serialise_function,
)
from tests.faults import fault
from tests.values.far import Far

# Functions of an interactive session or a script


def test_functions_of_a_script(far: Far) -> None:
    assert far.script(
        """
        import functools, math
        OFFSET = 10
        def helper(x): return x + OFFSET
        def f(kind, *args, **kwargs): return KINDS[kind](*args, **kwargs)
        def default(x, y=5, *, z=7): return x + y + z
        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        def closure(n): return lambda x: x + n
        class Adder:
            def __init__(self, n): self.n = n
            def __call__(self, x): return self.n + x
            def add(self, x): return self.n + helper(x)
            @classmethod
            def make(cls, n): return cls(n).n
            @staticmethod
            def double(x): return 2 * x
        def generator(n): yield from range(n)
        KINDS = {
            "def": helper, "lambda": lambda x: -x, "closure": closure(3), "partial": functools.partial(default, y=1),
            "method": Adder(20).add, "callable": Adder(30), "default": default, "recursion": factorial,
            "class": Adder.make, "static": Adder.double, "builtin": len, "installed": math.hypot,
            "generator": lambda n: list(generator(n)),
        }
        args = [
            ("def", 1), ("lambda", 1), ("closure", 1), ("partial", 1), ("method", 1), ("callable", 1), ("default", 1),
            ("recursion", 5), ("class", 4), ("static", 4), ("builtin", "abc"), ("installed", 3, 4), ("generator", 3),
            {"kind": "default", "x": 1, "z": 0},
        ]
        """
    ) == [11, -1, 4, 9, 31, 31, 13, 120, 4, 8, 3, 5.0, [0, 1, 2], 6]


@pytest.mark.parametrize("f", ["lambda x: x + N", "functools.partial(plus, N)", "Adder(3)", "Adder(3).add", "plus3"])
def test_each_kind_of_callable_is_a_function(far: Far, f: str) -> None:
    source = f"""
        import functools
        N = 3
        def plus(x, y): return x + y
        def plus3(x, y=N, *, z=0): return x + y + z
        class Adder:
            def __init__(self, n): self.n = n
            def __call__(self, x): return x + self.n
            add = __call__
        f = {f}
        args = [(1,), [2]]
    """
    assert far.script(source) == [4, 5]


def test_a_function_with_a_cache(far: Far) -> None:
    source = "import functools\n@functools.lru_cache\ndef f(x): return -x\nargs = [(1,)]"
    assert far.script(source) == [-1]
    source = "from own import f, g\nargs = [(1,)]\nns = {'g': g}"
    assert far.script(source, own="import functools\n@functools.cache\ndef g(x): return -x\ndef f(x): return g(x)") == [
        -1
    ]


def test_a_class_is_a_function_too(far: Far) -> None:
    assert far.map(complex, [(1, 2), {"real": 3}]) == [1 + 2j, 3 + 0j]


# The user's own modules


def test_functions_of_local_modules_and_of_the_modules_they_import(far: Far) -> None:
    assert far.script(
        "import upper; f = upper.f; args = [(1,), (2,)]",
        upper="""
            import lower
            from lower import other
            STATE = []
            def mine(x):
                global LAST
                LAST = x
                STATE.append(x)
            def seen(): return [LAST, len(STATE)]
            def f(x):
                mine(x)
                return [lower.triple(x), other(x), seen()]
        """,
        lower="""
            import math
            FACTOR = 3
            def triple(x): return int(math.fabs(FACTOR * x))
            def other(x): return triple(x) + 1
        """,
    ) == [[3, 4, [1, 1]], [6, 7, [2, 2]]]


def test_classes_come_back_as_the_ones_they_were(far: Far) -> None:
    assert far.script(
        """
        from shapes import Colour, Point, TooFar, f
        args = [(Point(1), Colour.RED), (Point(2), Colour.BLUE)]
        def check(results):
            (point, colour, error), (other, blue, _) = results
            return [
                type(point) is type(other) is Point, point.x, other.x, colour is Colour.RED, blue is Colour.BLUE,
                type(error) is TooFar, error.args, isinstance(error, ValueError),
            ]
        """,
        shapes="""
            import enum
            class Colour(enum.Enum):
                RED = 1
                BLUE = 2
            class TooFar(ValueError): pass
            class Point:
                def __init__(self, x): self.x = x
            def f(point, colour):
                assert type(point) is Point and isinstance(colour, Colour) and colour in (Colour.RED, Colour.BLUE)
                return Point(point.x * 10), colour, TooFar("so", point.x)
        """,
    ) == [True, 10, 20, True, True, True, ["so", 1], True]


def test_an_error_of_a_local_class_is_text(far: Far) -> None:
    [text] = far.script(
        "from own import f; args = [(1,)]",
        own="class Own(Exception): pass\ndef f(x): raise Own(f'not {x}')",
    )
    assert text.startswith("Own: not 1\nTraceback")
    assert "in f" in text


CODE = """
import functools

class Shape:
    def area(self):
        return 1 / self.width  # of a method

    @property
    def width(self):
        return 0

    def __call__(self):
        return self.area()

def plain():
    return 1 / 0  # of a function

def outer():
    def inner():
        return [1 / x for x in (0,)]  # of a function in a function
    return inner

@functools.lru_cache
def cached():
    return 1 / 0  # of a function with a cache

short = lambda: 1 / 0  # of a lambda
within = outer()
method = Shape().area
shape = Shape()
"""


@pytest.mark.parametrize(
    ("f", "line"),
    [
        ("plain", "function"),
        ("outer()", "function in a function"),
        ("within", "function in a function"),
        ("cached", "function with a cache"),
        ("short", "lambda"),
        ("method", "method"),
        ("shape", "method"),
        ("functools.partial(plain)", "function"),
    ],
)
@pytest.mark.parametrize("kept", [True, False])
def test_a_traceback_has_the_file_and_the_line_of_code_that_travelled(
    far: Far, tmp_path: Path, f: str, line: str, kept: bool
) -> None:
    """Whatever its name: a module, or a cell of a notebook, which is no file. Where it can be read, it is quoted."""
    file = str(tmp_path / "code.py") if kept else "<cell 7>"
    if kept:
        Path(file).write_text(CODE)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(CODE, file, "exec"), names)
    [error] = far.map(eval(f, names), [()])
    number = 1 + next(at for at, text in enumerate(CODE.splitlines()) if text.endswith(f"# of a {line}"))
    assert f'File "{file}", line {number}, in ' in error
    assert (f"# of a {line}\n" in error) == kept


@fault(
    26,
    "a module that is loaded lazily, and cannot be, is in sys.modules",
    promise="map goes on: nothing of it is needed, and it is not asked",
)
@pytest.mark.parametrize("error", [ImportError, AttributeError, RuntimeError])
def test_lazy_modules_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise error(f"no {name}: an optional package is not there")

    class Odd:
        __slots__ = ()

    file = tmp_path / "lazily.py"
    file.write_text("1 / 0")
    spec = importlib.util.spec_from_file_location("lazily", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    standard = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(standard)
    own = Lazy("own")
    object.__setattr__(own, "__file__", str(tmp_path / "own.py"))
    for name, module in {"lazy": Lazy("lazy"), "own": own, "odd": Odd(), "lazily": standard}.items():
        monkeypatch.setitem(sys.modules, name, module)
    outgoing = Outgoing()
    function, _ = serialisation.serialise_function(lambda: json.dumps(12), None, outgoing.pickler)
    outgoing.look()
    assert client.load(function)() == "12"


# The namespace


def outer(x: int) -> Any:
    return helper_in_ns(x)  # type: ignore[name-defined]  # noqa: F821


def other_in_ns(x: int) -> int:
    return x * FACTOR


def uses_a_method(x: int) -> Any:
    return Tool().use(x)  # type: ignore[name-defined]  # noqa: F821


class ToolWithoutInit:
    def use(self, x: int) -> Any:
        return other_in_ns(x)


FACTOR = 2


def test_names_in_ns_win_over_globals(far: Far) -> None:
    assert far.map(other_in_ns, [(5,)]) == [10]
    assert far.map(other_in_ns, [(5,)], {"FACTOR": 100}) == [500]
    assert far.map(functools.partial(other_in_ns, 5), [()], {"FACTOR": 100}) == [500]


def test_functions_in_ns_see_each_other(far: Far) -> None:
    ns = {"helper_in_ns": lambda x: third(x) + 1, "third": other_in_ns, "FACTOR": 7}  # type: ignore[name-defined]  # noqa: F821
    assert far.map(outer, [(1,), (2,)], ns) == [8, 15]
    assert far.map(uses_a_method, [(1,)], {"Tool": ToolWithoutInit, "FACTOR": 9}) == [9]


def test_functions_in_ns_see_what_global_puts_there(far: Far) -> None:
    def f(x: int) -> Any:
        global fractions
        import fractions

        return half(x)

    def half(x: int) -> Any:
        return str(fractions.Fraction(x, 2))  # type: ignore[name-defined]

    assert far.map(f, [(3,)], {"half": half}) == ["3/2"]


def test_a_global_import_is_seen_by_functions_of_ns_in_a_script(far: Far) -> None:
    assert far.script(
        """
        def g(x): return st.mean(x)
        def f(x):
            global st
            import statistics as st
            return g(x)
        ns = {"g": g}
        args = [([1, 2, 6],)]
        """
    ) == [3]


@pytest.mark.parametrize(
    "f",
    [
        "class C(contextlib.ContextDecorator):\n    def __enter__(self): pass\n    def __exit__(self, *_): pass\n"
        "@C()\ndef f(x): return x + N",  # what is called first is a function of contextlib
        "@functools.wraps(print)\ndef f(x): return x + N",
        "class C:\n    func = None\n    def __call__(self, x): return x + N\nf = C()",
        "class C:\n    func = staticmethod(abs)\n    def __call__(self, x): return self.func(x + N)\nf = C()",
        "def g(x): return x + N\ndef f(x): return g(x)",
        "def make():\n    def inner(x): return x + N\n    return lambda x: inner(x)\nf = make()",
        "from own import g as f",
        "f = functools.partial(functools.partial(lambda a, x: x + N, 0))",
    ],
    ids=["decorated", "wraps", "func", "holds func", "helper", "nested", "imported", "partial"],
)
def test_ns_reaches_what_a_callable_calls(far: Far, f: str) -> None:
    source = f"import contextlib, functools\n{f}\nargs = [(1,)]\nns = {{'N': 5}}\n"
    assert far.script(source, own="def g(x): return x + N") == [6]


def test_ns_does_not_change_installed_modules(far: Far) -> None:
    def f() -> Any:
        return [dumps("x"), json.dumps("x")]  # type: ignore[name-defined]  # noqa: F821

    assert far.map(f, [()], {"dumps": json.dumps, "JSONEncoder": None}) == [['"x"', '"x"']]


# What cannot travel


@pytest.mark.parametrize("f", [None, 7, "f", [len]])
def test_what_cannot_be_called_is_no_function(f: Any) -> None:
    with pytest.raises(TypeError, match="it must be something that can be called"):
        serialise_function(f)


@fault(26, "a function that cannot be serialised", promise="an error that names it")
def test_a_function_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()

    def locked() -> bool:
        return lock.acquire()

    with pytest.raises(SerialisationError, match=r"the function .*locked cannot be serialised: .*lock"):
        serialise_function(locked)


def test_a_name_in_ns_that_cannot_travel_is_named() -> None:
    with pytest.raises(SerialisationError, match=r"ns\['guard'\], a lock, cannot be serialised: .*lock"):
        serialise_function(len, {"fine": 1, "guard": threading.Lock()})


@pytest.mark.parametrize("name", ["not a name", 7, "", ("x",)])
def test_a_key_of_ns_must_be_a_name(name: Any) -> None:
    with pytest.raises(SerialisationError, match="each must be a name"):
        serialise_function(len, {name: 1})


# Which form a Python gets


def python(**facts: str) -> dict[str, str]:
    return {**client.describe_python(), **facts}


def test_every_form_has_its_loader_and_its_rule() -> None:
    assert LOADERS.keys() == COMMON.keys()


@pytest.mark.parametrize("name", COMMON)
def test_this_python_can_load_what_it_makes(name: str) -> None:
    made = Form(name, python())
    assert choose([made], python(), "node") is made


@pytest.mark.parametrize("name", COMMON)
def test_a_form_comes_back_from_the_store(name: str) -> None:
    made = Form(name, python())
    assert Form.read(json.loads(json.dumps(made.stored()))) == made


def test_the_first_form_that_fits_is_taken() -> None:
    theirs = python(magic="00")
    forms = [Form(PICKLE, python()), Form(PICKLE, theirs), Form(PICKLE, theirs)]
    assert choose(forms, python(magic="00"), "node") is forms[1]


def test_a_bugfix_release_and_another_path_are_no_hindrance() -> None:
    made = Form(PICKLE, python())
    assert choose([made], python(version="3.99.1", executable="/elsewhere"), "node") is made


@pytest.mark.parametrize("fact", ["implementation", "magic"])
def test_why_no_form_fits(fact: str) -> None:
    ours = Form(PICKLE, {"implementation": "cpython", "version": "3.12.4", "magic": "cb0d0d0a", "executable": "/x"})
    theirs = {**ours.python, "version": "3.9.2", "executable": "/opt/python", fact: "other"}
    assert choose([ours], theirs, "node7") == (
        f"the worker on node7 runs {theirs['implementation']} 3.9.2 (/opt/python), the function was made by cpython "
        "3.12.4: set the option `python`, not `shell`, to '3.12', or put what goes by value (a lambda, what a script "
        "or a notebook defines) into a module of your own"
    )


def test_any_python_takes_what_goes_by_name() -> None:
    made = Form(BY_NAME, python())
    assert choose([made], python(implementation="pypy", magic="00", version="3.6.9"), "node") is made


def test_a_form_says_what_is_looked_up_where_that_is_of_use() -> None:
    names = [("sim", "step"), ("pathlib", "PosixPath")]
    assert "names" not in form(True, names)
    made = Form.read(json.loads(json.dumps(form(False, names))))
    assert (made.name, made.names) == (BY_NAME, [[*each] for each in names])
    assert made.made_by(python(version="3.99.1"))
    assert not made.made_by(python(magic="00"))


def test_a_worker_that_does_not_say_its_python() -> None:
    assert choose([Form(PICKLE, python())], None, "node") == "the worker does not say what Python it runs"


def test_a_request_of_the_version_before_has_the_form_of_today() -> None:
    stored = {"form": "cloudpickle", **python()}
    assert Form.read(stored) == Form(PICKLE, python())
    assert form() == stored
