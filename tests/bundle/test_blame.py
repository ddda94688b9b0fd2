"""What cannot travel is named by the way to it."""

import threading
from pathlib import Path
from typing import Any

import pytest

from sheepdog.bundle.blame import trail
from sheepdog.client import dump
from tests.bundle.projects import python, write

LOCK = threading.Lock()


def attempt(value: Any) -> Exception | None:
    try:
        dump(value)
    except Exception as error:
        return error
    return None


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.mark.parametrize(
    ("value", "way"),
    [
        (LOCK, "x"),
        ([1, {"a": (LOCK,)}], "x -> [1] -> ['a'] -> [0]"),
        (Holder([LOCK]), "x -> .value -> [0]"),
        (Slotted(LOCK), "x -> .value"),
        ({LOCK: 1}, f"x -> the key {LOCK!r}"[:85]),
        ({"a": 1, "b": Holder(Slotted(LOCK))}, "x -> ['b'] -> .value -> .value"),
    ],
    ids=range(6),
)
def test_the_way(value: Any, way: str) -> None:
    assert trail(value, "x", attempt) == f"{way}, a _thread.lock"


def test_the_way_through_functions_and_modules(tmp_path: Path) -> None:
    project = write(
        tmp_path / "project",
        {
            "main.py": """
                import config_made as config
                import sys
                from sheepdog.bundle import needs
                from sheepdog.bundle.blame import trail
                def attempt(value):
                    try:
                        needs.dumps(value, lambda name: name.endswith("_made"), needs.Needs())
                    except Exception as error:
                        return error
                def closed():
                    lock = config.LOCK
                    return lambda: lock
                class C:
                    kept = config.LOCK
                    def m(self): return g()
                def f(): return g()
                def g(): return [config for _ in "x"]
                def h(x, y=config.LOCK): pass
                for value in (f, closed(), C().m, C, h):
                    print(trail(value, "f", attempt))
            """,
            "config_made.py": "import threading\nLOCK = threading.Lock()\n",
        },
    )
    assert python("main.py", cwd=project).splitlines() == [
        "f -> g -> config -> LOCK, a _thread.lock, in config_made.py",
        "f -> lock, a _thread.lock, in main.py",
        "f -> its object -> its class -> .kept, a _thread.lock",
        "f -> .kept, a _thread.lock",
        "f -> the default 0, a _thread.lock, in main.py",
    ]


def test_what_cannot_be_taken_apart_is_named_itself() -> None:
    assert trail(iter([LOCK]), "x", attempt) == "x -> part 0 of it -> [0], a _thread.lock"
    with open(__file__) as file:
        assert trail(file, "x", attempt) == "x, a _io.TextIOWrapper"
