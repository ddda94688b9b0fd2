"""Names for a function."""

import functools
import json
import sys
import types
from typing import Any

import pytest

from sheepdog.client.function import functions_behind, inject
from tests.client.children import function_with


def something(*args: Any) -> None: ...


class Nothing:
    """A class without an __init__ of its own."""


class Bound:
    def method(self) -> None: ...

    def __call__(self) -> None: ...

    @classmethod
    def made(cls) -> None: ...


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (something, True),
        (functools.partial(something, 1), True),
        (functools.partial(functools.partial(something)), True),
        (functools.lru_cache(something), True),
        (Bound().method, True),
        (Bound.made, True),
        (Bound(), True),
        (Nothing, False),
        (len, False),
        (7, False),
        (None, False),
        (int, False),
        (types.SimpleNamespace(func=7), False),
    ],
)
def test_the_globals_of_what_is_called_in_the_end(value: Any, found: bool) -> None:
    assert (globals() in [function.__globals__ for function in functions_behind(value)]) == found


def test_what_refers_to_itself_ends() -> None:
    loop = types.SimpleNamespace()
    loop.__wrapped__ = loop
    assert list(functions_behind(loop)) == []


def test_names_are_injected_into_the_function_and_those_in_the_namespace() -> None:
    f, g = function_with({}), function_with({})
    inject(f, {"N": 5, "g": g, "module": sys, "text": "x"})
    assert (f(), g()) == (5, 5)
    assert f.__globals__["g"] is g is g.__globals__["g"]


def test_really_imported_modules_stay_as_they_are() -> None:
    before = dict(vars(json))
    inject(function_with({}), {"dumps": json.dumps, "JSONEncoder": 7})
    assert vars(json) == before
