"""The grammar of raw options of qsub: which are refused, and what the others say.

It is here, and not with the scheduler, as a Config refuses a wrong option at once, and imports go down.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from .checks import options
from .values import parse_size, parse_time

T = TypeVar("T")

REFUSED = {
    "-t": "use the key workers",
    "-N": "use the key name",
    "-S": "use the key shell",
    "-terse": "Sheepdog sets it itself",
    "-sync": "Sheepdog sets it itself",
    "-b": "Sheepdog sets it itself",
}


def check(value: object) -> tuple[str, ...]:
    """Check raw options."""
    ge_opts = options(value, "qsub", "-l h_rt=3600")
    for word in _words(ge_opts):
        if word in REFUSED:
            raise ValueError(f"must not hold {word}: {REFUSED[word]}")
    try:
        memory(ge_opts)
    except ValueError as error:
        raise ValueError(f"holds mem_grab, which {error}") from None
    return ge_opts


def gives(ge_opts: Iterable[str], *flags: str) -> bool:
    """Tell whether options hold one of these flags, such as "-cwd"."""
    return any(word in flags for word in _words(ge_opts))


def memory(ge_opts: Iterable[str]) -> int | None:
    """Return the bytes of -l mem_grab=SIZE, the last one if there are several."""
    return _resource(ge_opts, "mem_grab", parse_size)


def walltime(ge_opts: Iterable[str]) -> int | None:
    """Return the seconds of -l h_rt or -l s_rt, whichever is shorter; None if there is no limit."""
    limits = (_resource(ge_opts, name, _limit) for name in ("h_rt", "s_rt"))
    return min(filter(None, limits), default=None)


def avoiding(ge_opts: Sequence[str], hosts: Collection[str]) -> tuple[str, ...]:
    """Return options with which a job is on none of these hosts, by their short names.

    What they say of hosts themselves holds as well. If they name hosts, and all of these are to be avoided, they stay.
    With -w e, a job for which no host is left is refused.
    """
    if not hosts:
        return tuple(ge_opts)
    none = f"!({'|'.join(f'{host}|{host}.*' for host in hosts)})"
    said = _resource(ge_opts, "h", str) or _resource(ge_opts, "hostname", str)
    if said is not None:
        named = said.split("|")
        if all(re.fullmatch(r"[\w-]+(\.[\w.-]+)?", name) and name.partition(".")[0] in hosts for name in named):
            return tuple(ge_opts)
        none = f"({said})&{none}"
    check = () if gives(ge_opts, "-w") else ("-w e",)
    return *ge_opts, f"-l h={none}", *check


def _words(ge_opts: Iterable[str]) -> list[str]:
    return [word for option in ge_opts for word in shlex.split(option)]


def _limit(text: str) -> int:
    """Return the seconds of a limit; 0 for INFINITY and whatever else Grid Engine may know."""
    try:
        return parse_time(text)
    except ValueError:
        return 0


def _resource(ge_opts: Iterable[str], wanted: str, parse: Callable[[str], T]) -> T | None:
    """Return what -l NAME=VALUE says, the last one if there are several."""
    found = None
    for flag, resources in pairwise(_words(ge_opts)):
        for resource in resources.split(",") if flag == "-l" else ():
            name, _, text = resource.partition("=")
            if name == wanted:
                found = parse(text)
    return found
