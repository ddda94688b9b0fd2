"""Checks of values: each takes a value and gives the one to keep, or raises ValueError with what is allowed.

Beside them are the readers of a variable's text, for values that are no text. What they cannot read they give back
as it is, for the check to refuse.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping

from .registry import LINKS, SCHEDULERS
from .values import SIZE, TIME, parse_factor, parse_size, parse_time

Check = Callable[[object], object]
Reader = Callable[[str], object]

_HOST = r"(?!-)[\w.:\[\]-]+"


def machine(value: object) -> object:
    """Check this machine's name or address, without a port; an address of IPv6 may be in brackets."""
    import ipaddress

    name = str(_machine(value))
    bare = name.removeprefix("[").removesuffix("]")
    if not set("[:]") & set(name):
        return name
    try:
        return str(ipaddress.IPv6Address(bare))
    except ValueError:
        raise ValueError("must be this machine's name or address alone: a port is said with the option port") from None


def short(value: object) -> str:
    """Return a value as an error shows it."""
    from reprlib import Repr

    shortener = Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = 60
    return shortener.repr(value)


AUTO = "auto"
NUMBER = r"(?:cpython-|python)?\d+(?:\.\d+)*"
VERSION = r"(?:cpython-|python)?(3\.\d{1,2}(?:\.\d{1,3})?)"


# Makers of checks


def optional(check: Check, absent: str) -> Check:
    """Let None pass as well; absent says what leaving the key out means."""

    def checked(value: object) -> object:
        try:
            return None if value is None else check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or left out for {absent}") from None

    return checked


def whole(lowest: int, highest: int) -> Check:
    """Check a whole number."""

    def check(value: object) -> int:
        if type(value) is not int or not lowest <= value <= highest:  # True is an int, too
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return value

    return check


def seconds(allowed: str, lowest: float) -> Check:
    """Check a number of seconds; allowed tells the lowest in words."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= 1e9:
            raise ValueError(f"must be a number of seconds, {allowed} and at most 1000000000")
        return float(value)

    return check


def text(allowed: str, fits: Callable[[str], object]) -> Check:
    """Check a text."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not fits(value):
            raise ValueError(f"must be {allowed}")
        return value

    return check


def pattern(allowed: str, regex: str) -> Check:
    """Check a text by a pattern for all of it."""
    # re caches what it compiles; to compile here would slow the import down.
    return text(allowed, lambda given: re.fullmatch(regex, given, re.ASCII))


def path(check: Check) -> Check:
    """Let what stands for a path pass as its text."""
    return lambda value: check(os.fspath(value) if isinstance(value, os.PathLike) else value)


# Checks


host = pattern(
    'a host\'s name, of letters, digits and . _ - : [ ] @ only, and not beginning with "-"', rf"((?!-)[\w.-]+@)*{_HOST}"
)
user = pattern(
    'a user\'s name, of letters, digits and . _ - + @ \\ only, and not beginning with "-"',
    r"(?!-)([\w.+@-]+\\)*[\w.+@-]+",
)
_machine = pattern("this machine's name, of letters, digits and . _ - : [ ] only", _HOST)
name = pattern("a letter or _ followed by at most 63 letters, digits and . _ -", r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
queues = pattern("the names of queues, of letters, digits and . _ - @ , only", r"[A-Za-z0-9_@][A-Za-z0-9_.@,-]*")
resource = pattern("a name of the site's, of letters, digits and . _ - only", r"[A-Za-z_][A-Za-z0-9_.-]*")
port = whole(1, 65535)
link = text("one of " + ", ".join(f'"{each}"' for each in LINKS), lambda given: given in LINKS)
scheduler = text("one of " + ", ".join(f'"{each}"' for each in SCHEDULERS), lambda given: given in SCHEDULERS)
printable = text("one line of printable text", lambda given: given.strip() and given.isprintable())
command = text("one line of printable text, quoted as for a shell", lambda given: given.isprintable() and _split(given))


def _split(given: str) -> list[str]:
    try:
        return shlex.split(given)
    except ValueError:
        return []


def ssh_dir(value: object) -> str:
    """Check the directory of job files, and make it plain."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w./+@-]+", value, re.ASCII):
        raise ValueError(
            "must be a directory on the host, absolute or relative to the home directory (without ~), "
            "of letters, digits and . _ - + @ / only"
        )
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ValueError('must be a directory below / or below the home directory, without ".."')
    plain = "/" * value.startswith("/") + "/".join(parts)
    if plain.startswith("-"):
        raise ValueError('must not begin with "-"')
    return plain


def dbfile(value: object) -> str:
    """Check the path of the database."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a file")
    if value == ":memory:":
        raise ValueError("must be a file: the server is another process, and could not see this memory")
    return value


def python(value: object) -> str:
    """Check where the worker's Python comes from; a path becomes absolute."""
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise ValueError(
            'must be "auto", a version such as "3.13", or the path of an archive or a folder of a CPython that is here'
        )
    if value == AUTO:
        return value
    said = re.fullmatch(VERSION, value)
    number = re.fullmatch(NUMBER, value)
    if number and (not said or [int(part) for part in said[1].split(".")[:2]] < [3, 6]):
        raise ValueError(
            f'must be a version such as "3.13", and workers need 3.6 or newer; a folder of this name is "./{value}"'
        )
    return said[1] if said else os.path.abspath(os.path.expanduser(value))


def time(value: object) -> str:
    """Check a time; a number is one of seconds."""
    given = str(value) if type(value) is int else value
    if not isinstance(given, str) or parse_time(given) < 1:
        raise ValueError(f"must be {TIME}")
    return given


def memory(value: object) -> str:
    """Check a size; a number is one of bytes."""
    given = str(value) if type(value) is int else value
    # The smallest Python takes more: who says 2 means "2G".
    if not isinstance(given, str) or parse_size(given) < 1024**2:
        raise ValueError(f"must be {SIZE}, and at least 1M")
    return given.upper()


def factor(value: object) -> str:
    """Check a factor."""
    given = value if isinstance(value, str) else ""
    parse_factor(given)
    return given


def flag(value: object) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool):
        raise ValueError("must be True or False")  # noqa: TRY004
    return value


def options(value: object, program: str, example: str) -> tuple[str, ...]:
    """Check raw options: each becomes a line of the job file, so that none may hold another line."""
    if not isinstance(value, list | tuple):
        shown = short(value) if isinstance(value, str) else repr(example)
        raise ValueError(f"must be a list of options of {program}: write [{shown}]")  # noqa: TRY004
    for option in value:
        if not isinstance(option, str) or not option.startswith("-") or not option.isprintable():
            raise ValueError(
                f'must hold options of {program}: each is one line of text and begins with "-"; not {short(option)}'
            )
        try:
            shlex.split(option)
        except ValueError:
            raise ValueError(f"must have its quotes closed; not {short(option)}") from None
    return tuple(value)


def setup(value: object) -> tuple[str, ...]:
    """Check lines for the shell that starts a worker."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of lines: write [{short(value)}]")  # noqa: TRY004
    for line in value:
        if not isinstance(line, str) or not line.strip() or not line.replace("\t", " ").isprintable():
            raise ValueError(f"must hold lines of printable text; not {short(line)}")
    return tuple(value)


def variables(value: object) -> tuple[tuple[str, str], ...]:
    """Check environment variables, a dict or pairs; a number becomes its text."""
    example = 'must be a dict of variables, such as {"OMP_NUM_THREADS": "4"}'
    try:
        pairs = [(name, given) for name, given in (value.items() if isinstance(value, Mapping) else value)]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError(example) from None
    for name, given in pairs:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{example}; {short(name)} is no name of a variable")
        if isinstance(given, bool) or not isinstance(given, str | int | float) or "\0" in str(given):
            raise ValueError(f"{example}; {name} is {short(given)}, which is no text")
    return tuple({name: str(given) for name, given in pairs}.items())


# Readers


def read_whole(given: str) -> object:
    """Read a whole number."""
    try:
        return int(given)
    except ValueError:
        return given


def read_number(given: str) -> object:
    """Read a number."""
    try:
        return float(given)
    except ValueError:
        return given


def read_flag(given: str) -> object:
    """Read a truth value."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return words.get(given.lower(), given)


def read_options(given: str) -> object:
    """Read raw options, which a semicolon or a new line separates."""
    return [option.strip() for option in re.split("[;\n]", given) if option.strip()]


def ship(value: object) -> object:
    """Check what travels besides what is found by itself, or False."""
    if value is False:
        return False
    items = () if value is True else value
    found = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in _items(items)]
    if not all(isinstance(each, str) and each and "\0" not in each for each in found):
        raise ValueError("must be a list of files, folders and names of own modules, or False for no files at all")
    return tuple(found)


FILES = (".txt", ".toml", ".lock")  # the ends of the names of files of requirements


def packages(value: object) -> object:
    """Check which packages are brought along: True, requirements, or the path of a file of them."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is True or value is False:
        return value or None
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value
    items = _items(value)
    if not items or not all(isinstance(each, str) and re.match(r"\s*[A-Za-z0-9]", each) for each in items):
        raise ValueError('must be True, a list of requirements such as "numpy==1.26.*", or the path of a file of them')
    for each in items:
        _require_requirement(str(each))
    return tuple(items)


def _require_requirement(given: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    text = given.strip()
    try:
        if Requirement(text).url is not None or not text.endswith(FILES):
            return
    except InvalidRequirement:
        pass
    if text.endswith(FILES):
        raise ValueError(
            f'must list requirements, and {short(text)} is a file: give the file itself, packages="{text}"'
        )
    if "/" in text:
        raise ValueError(
            f"must list requirements, and {short(text)} is a path or an address: give a file of requirements itself, "
            f'packages="{text}", and what is to be installed with its name, "name @ https://..." or "name @ file:///..."'
        )
    raise ValueError(f'must list requirements such as "numpy==1.26.*"; {short(text)} is none')


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [None]


def read_ship(given: str) -> object:
    """Read lines, or a truth value."""
    flag = read_flag(given)
    return flag if isinstance(flag, bool) else read_lines(given)


def read_packages(given: str) -> object:
    """Read a truth value, the path of a file, or requirements, one a line."""
    flag, lines = read_flag(given), [line.strip() for line in given.splitlines() if line.strip()]
    if isinstance(flag, bool):
        return flag
    return given.strip() if len(lines) == 1 and os.path.isfile(os.path.expanduser(lines[0])) else lines


def read_lines(given: str) -> object:
    """Read lines."""
    return [line for line in given.splitlines() if line.strip()]


def read_variables(given: str) -> object:
    """Read environment variables, NAME=VALUE, one a line."""
    pairs = [line.partition("=") for line in given.splitlines() if line.strip()]
    return [(name.strip(), value) for name, is_, value in pairs] if all(is_ for _, is_, _ in pairs) else given
