"""Reads pickles of plain data without an unpickler: what they name is not looked up, and nothing is run.

Plain data is None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set and frozenset. The work and
the memory are bounded by the length of the pickle, whatever it says about itself.
"""

from __future__ import annotations

import pickletools
from typing import Any, NoReturn

from ..errors import UntrustedResult

WORK = 10_000_000  # steps that finding the hashes of keys may take, beside ten for each byte

VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CALLS = {("builtins", "complex"): (float, float), ("builtins", "bytearray"): (bytes,)}
"""What protocol 4 has no instruction for, and the types of the arguments with which it calls the type."""


def read_plain(data: bytes) -> Any:
    """Return the value of a pickle of plain data; UntrustedResult if it is anything else."""
    try:
        return _Machine(data).run()
    except UntrustedResult:
        raise
    except Exception as error:
        raise UntrustedResult(f"this is no pickle of plain data ({type(error).__name__}: {error})") from error


class _Name:
    """A type that a pickle has named in order to call it."""

    def __init__(self, types: tuple[type, ...]) -> None:
        self.types = types


class _Machine:
    """What a pickle is a program for, with the few instructions that make plain data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}  # not a list: a pickle may say that it begins with number 2**31
        self.names = 0  # on the stack, or wherever they went that is not a call
        self.work = WORK + 10 * len(data)
        self.copied = 0

    def run(self) -> Any:
        """Run the program to its end and return what it made."""
        stack, memo = self.stack, self.memo
        arg: Any
        for instruction, arg, _ in pickletools.genops(self.data):
            name = instruction.name
            if name in VALUES:
                stack.append(arg)
                continue
            match name:
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[arg])
                    self.names += isinstance(memo[arg], _Name)
                case "BINPUT" | "LONG_BINPUT":
                    memo[arg] = stack[-1]
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(name == "NEWTRUE")
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(self.take(int(name[-1]))))
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE":
                    stack.append(tuple(self.take()))
                case "EMPTY_LIST":
                    stack.append([])
                case "APPEND" | "APPENDS":
                    items = self.take(1 if name == "APPEND" else None)
                    self.top(list).extend(items)
                case "EMPTY_DICT":
                    stack.append({})
                case "SETITEM" | "SETITEMS":
                    items = self.take(2 if name == "SETITEM" else None)
                    keys = self.weighed(items[::2])
                    self.top(dict).update(zip(keys, items[1::2], strict=True))
                case "EMPTY_SET":
                    stack.append(set())
                case "ADDITEMS":
                    items = self.weighed(self.take())
                    self.top(set).update(items)
                case "FROZENSET":
                    stack.append(frozenset(self.weighed(self.take())))
                case "STACK_GLOBAL":
                    self.find(*self.take(2))
                case "GLOBAL":
                    self.find(*arg.split(" ", 1))
                case "REDUCE":
                    stack.append(self.call(*self.take(2)))
                case "MARK":
                    self.marks.append(len(stack))
                case "POP_MARK":
                    self.take()
                case "POP":
                    self.take(1)
                case "PROTO" | "FRAME" | "STOP":
                    pass
                case _:
                    self.refuse(f"the instruction {name}")
        [value] = stack
        if self.names:
            raise ValueError("it holds a type")
        return value

    def take(self, count: int | None = None) -> list[Any]:
        """Take so many values off the stack, or all that are above the last mark."""
        start = self.marks.pop() if count is None else len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("it takes what is not there")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        """Return the value on top of the stack, which must be of this kind."""
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"it takes a {type(self.stack[-1]).__name__} for a {kind.__name__}")
        return self.stack[-1]

    def weighed(self, keys: list[Any]) -> list[Any]:
        """Count the steps that the hashes of these keys take: tuples in tuples, each twice in the next, take 2**n."""
        waiting = [key for key in keys if type(key) is tuple]
        while waiting:
            inner = waiting.pop()
            self.work -= len(inner) + 1
            if self.work < 0:
                raise ValueError("its keys are too large")
            waiting.extend(item for item in inner if type(item) is tuple)
        return keys

    def find(self, module: Any, name: Any) -> None:
        """Put a type on the stack that is called for plain data, and refuse all others."""
        types = CALLS.get((module, name))
        if types is None:
            self.refuse(f"{module}.{name}")
        self.stack.append(_Name(types))
        self.names += 1

    def call(self, function: Any, args: Any) -> complex | bytearray:
        """Make a complex number or a bytearray."""
        if not isinstance(function, _Name) or tuple(map(type, args)) not in (function.types, ()):
            raise ValueError("it calls what cannot be called so")
        self.names -= 1
        if function.types != (bytes,):
            return complex(*args)
        self.copied += sum(map(len, args))
        if self.copied > len(self.data):  # each has bytes of its own in an honest pickle
            raise ValueError("it copies the same bytes again and again")
        return bytearray(*args)

    @staticmethod
    def refuse(what: str) -> NoReturn:
        """Say what the pickle wanted, and how to let it."""
        shown = what if len(what) <= 200 and what.isprintable() else repr(what[:200])
        raise UntrustedResult(
            f"this is not plain data: its pickle wants {shown}. If you trust those who can write to the database and "
            "to your account on the cluster, load it with trusted=True"
        )
