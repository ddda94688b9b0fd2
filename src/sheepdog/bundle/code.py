"""Code, looked at and not run: what it imports, and the names that it uses."""

from __future__ import annotations

import dis
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from importlib.util import cache_from_source
from types import CodeType
from typing import NamedTuple

from .branches import Branches, branches_in, may_ask_for_the_machine
from .stamps import Kept, is_settled

CO_OPTIMIZED = 1  # as inspect has it
IMPORT_NAME, EXTENDED_ARG = dis.opmap["IMPORT_NAME"], dis.opmap["EXTENDED_ARG"]
NAME_SHIFT = 2 if sys.version_info >= (3, 15) else 0  # bits below the name's number: whether the import is lazy
SMALL_INT = dis.opmap.get("LOAD_SMALL_INT", -1)  # 3.14: its argument is the number
BACKWARD = frozenset(op for op in dis.hasjrel if "BACKWARD" in dis.opname[op])
FORWARD = frozenset(dis.hasjrel) - BACKWARD
MAIN_LEVEL, UNIT = "<module>", 2
STORE_NAME, STORE_GLOBAL, STORE_ATTR = (dis.opmap[f"STORE_{what}"] for what in ("NAME", "GLOBAL", "ATTR"))
CONSTANTS = ("LOAD_CONST", "LOAD_CONST_IMMORTAL", "LOAD_SMALL_INT")

PLAIN = frozenset(
    (
        *("RESUME", "NOP", "CACHE", "EXTENDED_ARG", "MAKE_CELL", "COPY_FREE_VARS", "POP_TOP", "SWAP", "NOT_TAKEN"),
        *("IMPORT_NAME", "IMPORT_FROM", *CONSTANTS, "STORE_FAST", "STORE_DEREF", "STORE_GLOBAL", "STORE_NAME"),
    )
)
"""What an import is made of, and what does nothing."""

NAME = "__look__"  # of a module whose file is looked at

BY_TEXT = frozenset(
    ("import_module", "__import__", "find_spec", "run_module", "files", "get_data", "resource_filename")
)
"""Functions that are given a module's name as a text."""

IMPORTERS = ("import_module", "__import__")
NOTHING = ("CACHE", "NOP", "PUSH_NULL", "PRECALL", "EXTENDED_ARG")  # between a function and its arguments
MAKERS = ("BINARY_", "BUILD_STRING", "FORMAT_")  # of texts

DOTTED = re.compile(r"\.*[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Import:
    """An import as it stands in code: level dots, a name, and the members that `from` takes.

    certain: it is made whenever its module is, not in a function, under a condition or a `try`.
    """

    level: int
    name: str
    members: tuple[str, ...] = ()
    certain: bool = False


ANY = Import(0, "*")
"""An import by a name that is made when it runs."""


class Together(NamedTuple):
    """The globals and the attributes that a function sets, and the globals that it uses besides."""

    globals: frozenset[str]
    attributes: frozenset[str]
    used: frozenset[str]


@dataclass(frozen=True, slots=True)
class Look:
    """What a piece of code, with all that is in it, imports and uses.

    names: of globals and attributes that functions use, and texts that could be such. outside: what is used or set
    outside of functions. texts: of strings, docstrings too. marks: of each function, by which it is known again in this
    process. constants: what a name of a module, or of a class in it (Class.name), is set to, if it always is, and once.
    together: of each function what it sets, and the globals that it uses besides. branches: see branches.py.
    """

    imports: tuple[Import, ...]
    names: frozenset[str]
    outside: frozenset[str]
    texts: frozenset[str]
    marks: frozenset[int]
    constants: Mapping[str, object]
    together: frozenset[Together]
    branches: Mapping[str, Branches] = field(default_factory=dict)


def look_at(code: CodeType) -> Look:
    """Return what a code imports and uses."""
    imports: dict[Import, None] = {}
    names: set[str] = set()
    outside: set[str] = set()
    texts: set[str] = set()
    marks: set[int] = set()
    set_once: dict[str, object] = {}
    together: set[Together] = set()
    for each in with_inner(code):
        raw = each.co_code  # made anew whenever it is asked for
        if each.co_flags & CO_OPTIMIZED:
            names.update(each.co_names)
            stored, set_of = _stored(raw, STORE_GLOBAL), _stored(raw, STORE_ATTR)
            if stored or len(set_of) > 1:
                known = [frozenset(each.co_names[number] for number in numbers) for numbers in (stored, set_of)]
                together.add(Together(known[0], known[1], frozenset(each.co_names)))
        else:
            outside.update(each.co_names)
            for name, value in _constants(each, raw):
                set_once[name] = value if name not in set_once else ...  # a class that is made twice
        constants = set()
        for constant in each.co_consts:
            if type(constant) is str:
                constants.add(constant)
            elif type(constant) in (tuple, frozenset):
                constants.update(_texts(constant))
        texts |= constants
        marks.add(mark_of(each))
        imports.update(dict.fromkeys(_imports(each, raw)))
        if not BY_TEXT.isdisjoint(each.co_names):
            named = (text.rstrip(".") for text in constants)  # f"plugins.{name}" has "plugins."
            imports.update(dict.fromkeys(Import(0, text) for text in named if DOTTED.fullmatch(text)))
            if _makes_a_name(each):
                imports[ANY] = None
    names.update(text for text in texts if text.isidentifier())
    return Look(
        tuple(imports),
        frozenset(names),
        frozenset(outside),
        frozenset(texts),
        frozenset(marks),
        set_once,
        frozenset(together),
    )


def first_imports(code: CodeType) -> list[Import]:
    """Return the imports with which a function begins: each call makes them, whatever else it does."""
    found: list[Import] = []
    raw = code.co_code
    guarded = min((start for start, *_ in _protected(code.co_exceptiontable)), default=len(raw))
    for place, operation in enumerate(raw[::UNIT]):
        if dis.opname[operation] not in PLAIN or place >= guarded:
            break
        if operation == IMPORT_NAME:
            number, start = _argument(raw, place)
            members, start = _constant(code, raw, start - 1)
            level, _ = _constant(code, raw, start - 1)
            taken = members if isinstance(members, tuple) else ()
            found.append(
                Import(level if isinstance(level, int) else 0, code.co_names[number >> NAME_SHIFT], taken, True)
            )
    return found


def attributes_of_globals(code: CodeType) -> set[str]:
    """Return the attributes that a code, with all that is in it, takes of globals: f of `module.f`."""
    found = set()
    for each in with_inner(code):
        before = ""
        for instruction in dis.get_instructions(each):
            if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and before in ("LOAD_GLOBAL", "LOAD_NAME"):
                found.add(str(instruction.argval))
            before = instruction.opname
    return found


def mark_of(code: CodeType) -> int:
    """Return what tells a code from every other of its file, also from itself after a change."""
    return hash((code, code.co_code))  # its own hash has names, lines and constants, but not all arguments of its bytes


def with_inner(code: CodeType) -> Iterator[CodeType]:
    """Yield a code, and the codes of what is defined in it."""
    waiting = [code]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += [constant for constant in each.co_consts if isinstance(constant, CodeType)]


def _texts(constant: object) -> Iterator[str]:
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, (tuple, frozenset)):
        for each in constant:
            yield from _texts(each)


def _imports(code: CodeType, raw: bytes) -> Iterator[Import]:
    operations = raw[::UNIT]
    place = operations.find(IMPORT_NAME)
    if place < 0:
        return
    covered = _conditional(code, raw, operations) if code.co_name == MAIN_LEVEL else None
    while place >= 0:
        number, start = _argument(raw, place)
        members, start = _constant(code, raw, start - 1)
        level, start = _constant(code, raw, start - 1)
        if isinstance(level, int):  # an import is always made so; but who writes bytecode writes anything
            taken = members if isinstance(members, tuple) else ()
            yield Import(level, code.co_names[number >> NAME_SHIFT], taken, covered is not None and not covered[place])
        place = operations.find(IMPORT_NAME, place + 1)


def _makes_a_name(code: CodeType) -> bool:
    """Tell whether a code imports by another name than a text that stands in it."""
    importing = given = False  # whether the importer has been loaded, and a text after it
    for each in dis.get_instructions(code):
        if each.opname in NOTHING:
            continue
        if importing and not given:
            given = each.opname in CONSTANTS and isinstance(each.argval, str)
            if not given:
                return True
        elif importing:
            if each.opname.startswith(MAKERS):
                return True
            importing = not each.opname.startswith("CALL")
        elif each.opname.startswith("LOAD_") and each.opname not in CONSTANTS:
            loaded = each.argval if isinstance(each.argval, tuple) else (each.argval,)
            importing, given = loaded[-1] in IMPORTERS, False
            if loaded[0] in IMPORTERS and not importing:
                return True
    return False


def _argument(raw: bytes, place: int) -> tuple[int, int]:
    """Return the argument of the instruction at a place, and the place where it begins."""
    number, shift = raw[place * UNIT + 1], 8
    while place and raw[(place - 1) * UNIT] == EXTENDED_ARG:
        place -= 1
        number |= raw[place * UNIT + 1] << shift
        shift += 8
    return number, place


def _constant(code: CodeType, raw: bytes, place: int) -> tuple[object, int]:
    """Return the constant that the instruction at a place loads, and the place where it begins."""
    operation = raw[place * UNIT]
    number, start = _argument(raw, place)
    if operation == SMALL_INT:
        return number, start
    return (code.co_consts[number] if dis.opname[operation] in CONSTANTS else None), start


def _conditional(code: CodeType, raw: bytes, operations: bytes) -> bytearray:
    """Return for each instruction whether it may be passed over: in a branch, a loop, a `try` or its `else`."""
    covered = bytearray(len(operations))
    protected = list(_protected(code.co_exceptiontable))
    for place, operation in enumerate(operations):
        if operation in FORWARD:
            _cover(covered, place, _next(operations, place) + _argument(raw, place)[0])
        elif operation in BACKWARD and protected:
            target = _next(operations, place) - _argument(raw, place)[0]
            for start, _, handler in protected:  # a handler at the end goes back to what is after the `else`
                if start < target < handler <= place:
                    _cover(covered, start, target)
    for start, length, handler in protected:
        _cover(covered, start, handler if sys.version_info < (3, 12) else start + length)  # its `else`
    return covered


def _cover(covered: bytearray, start: int, end: int) -> None:
    end = min(end, len(covered))
    covered[start:end] = b"\1" * (end - start)


def _next(operations: bytes, place: int) -> int:
    """Return the place of the instruction after this one."""
    place += 1
    while operations[place : place + 1] == b"\0":  # its cache
        place += 1
    return place


def _protected(table: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield where each part that has a handler begins, its length and the handler.

    See Objects/exception_handling_notes.txt.
    """
    numbers: list[int] = []
    number = 0
    for byte in table:
        if byte & 0x80:  # the first of the four numbers of a part
            numbers = []
        number = number << 6 | byte & 0x3F
        if not byte & 0x40:
            numbers.append(number)
            number = 0
            if len(numbers) == 3:
                yield numbers[0], numbers[1], numbers[2]


def _constants(code: CodeType, raw: bytes) -> Iterator[tuple[str, object]]:
    """Yield what a module or a class sets once, to a constant, and under no condition: the name, and the constant."""
    operations = raw[::UNIT]
    above = "" if code.co_name == MAIN_LEVEL else f"{code.co_qualname}."
    covered = None
    for number, starts in _stored(raw, STORE_NAME).items():
        if len(starts) == 1 and dis.opname[operations[starts[0] - 1]] in CONSTANTS:
            if covered is None:
                covered = _conditional(code, raw, operations)
            if not covered[starts[0]]:
                yield above + code.co_names[number], _constant(code, raw, starts[0] - 1)[0]


def _stored(raw: bytes, operation: int) -> dict[int, list[int]]:
    """Return where each name is set by this operation, by the name's number."""
    operations = raw[::UNIT]
    stored: dict[int, list[int]] = {}
    place = operations.find(operation)
    while place >= 0:
        number, start = _argument(raw, place)
        stored.setdefault(number, []).append(start)
        place = operations.find(operation, place + 1)
    return stored


def code_of(path: str) -> CodeType:
    """Return a file's code, compiled, or as it lies beside it. SyntaxError, OSError; it is not run."""
    try:
        if not path.endswith(".py"):
            code = SourcelessFileLoader(NAME, path).get_code(NAME)
        else:
            source = SourceFileLoader(NAME, path)
            code = source.get_code(NAME) if _is_older(path) else source.source_to_code(source.get_data(path), path)
    except (ValueError, EOFError, ImportError, TypeError) as error:  # a NUL; bytecode that is none
        raise SyntaxError(str(error)) from error
    if code is None:
        raise SyntaxError("it has no code")
    return code


def _is_older(path: str) -> bool:
    """Tell whether a source is older than its compiled code, which notes its time in whole seconds; or has none."""
    try:
        return os.stat(path).st_mtime_ns < os.stat(cache_from_source(path)).st_mtime_ns
    except FileNotFoundError:
        return is_settled(os.stat(path))


def look_of(path: str) -> Look:
    """Return what the code of a file imports and uses. SyntaxError, OSError."""
    code = code_of(path)
    look = look_at(code)
    if path.endswith(".py") and (code.co_exceptiontable or may_ask_for_the_machine(code.co_names)):
        with open(path, "rb") as file:
            return replace(look, branches=branches_in(file.read()))
    return look


looks: Kept[Look] = Kept(look_of)
