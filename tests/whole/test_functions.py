"""Functions of every kind reach the workers, with all that they use."""

import enum
import functools
import operator
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sheepdog

pytestmark = pytest.mark.usefixtures("place")


class Colour(enum.Enum):
    RED = 1


class Lazy:
    def __init__(self, x: int) -> None:
        self.x = x

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.x


@functools.cache
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


class Scaler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, x: int) -> int:
        return self.factor * x

    scale = __call__


constant = 12


def helper(x: int) -> int:
    return x + constant


def of_this_module(x: int) -> int:
    return helper(x) if x < 100 else of_this_module(x // 2)


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        (lambda x: x + constant, 1, 13),
        (of_this_module, 1, 13),
        (of_this_module, 150, 87),
        (functools.partial(operator.mul, 6), 7, 42),
        (functools.partial(functools.partial(of_this_module)), 1, 13),
        (Scaler(2), 3, 6),
        (Scaler(2).scale, 3, 6),
        (Scaler(4), 1, 4),
        (lambda c: c is Colour.RED and Colour.RED, Colour.RED, Colour.RED),
        (lambda n, f=helper: f(n), 1, 13),
        ((lambda y: lambda x: x * y)(7), 6, 42),
        (len, "abc", 3),
        (fibonacci, 50, 12586269025),
        (lambda lazy: lazy.double, Lazy(3), 6),
    ],
)
def test_kinds_of_function(function: Callable[..., object], args: object, result: object) -> None:
    [found] = sheepdog.map(function, [(args,)])
    assert found == result
    assert type(found) is type(result)


def test_functions_of_a_script() -> None:
    Path("local_module.py").write_text(
        "import local_helper\nfactor = 2\ndef double(x): return local_helper.times(x, factor)\n"
    )
    Path("local_helper.py").write_text("def times(x, y): return x * y\n")
    Path("script.py").write_text(
        "import sheepdog, local_module\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "def f(p, n=3): return Point(local_module.double(p.x) + g(n))\n"
        "def g(n): return 1 if n == 0 else n * g(n - 1)\n"
        "points = sheepdog.map(f, [(Point(1),), (Point(2),)], verbose=False)\n"
        "print([type(p) is Point and p.x for p in points])\n"
        "print(sheepdog.map(local_module.double, [(21,)], verbose=False))\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[8, 10]\n[42]\n", "")


def test_the_namespace_wins_and_is_shared() -> None:
    def f(a: int, b: int) -> Any:
        return a + g(b) + constant

    def g(x: int) -> Any:
        return h(x) * 2  # type: ignore[name-defined] # noqa: F821

    namespace = {"constant": 1, "g": g, "h": lambda x: x + constant}
    assert sheepdog.map(f, [(1, 2), (2, 3)], None, namespace) == [1 + 6 + 1, 2 + 8 + 1]


@pytest.mark.parametrize("lines", ["import numpy as np; global np", "global np; import numpy as np"])
def test_import_made_global_inside_the_function(lines: str) -> None:
    Path("script.py").write_text(
        "import sheepdog\n"
        "def f(a, b):\n"
        f"    {lines}\n"
        "    return g(a, b)\n"
        "def g(a, b):\n"
        "    return np.array((a, b)) ** 2\n"
        "print([list(map(int, r)) for r in sheepdog.map(f, [(1, 2), (3, 4)], None, {'g': g}, verbose=False)])\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[[1, 4], [9, 16]]\n", "")
