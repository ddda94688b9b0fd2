"""The line of a worker's output that tells most: an error before a banner, standard error before standard output."""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Iterable

_SIGNALS = (
    "Illegal instruction|Segmentation fault|Bus error|Floating point exception|Aborted|Killed|Terminated|Hangup|"
    "Bad system call|Trace/breakpoint trap|(?:CPU time|File size) limit exceeded"
)
_TRACEBACK = r"(?m)^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)"
_OF_PYTHON = (
    r"sheepdog: on \S+ there is no |(?!sheepdog: ).*[Pp]ython|(?:ModuleNotFound|Import|Syntax)Error\b|"
    rf".*(?:GLIBC|Exec format error|cannot execute)|.*(?:{_SIGNALS})"
)
_NOTHING = ("<no Python frame>",)


@functools.cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Return what a line that tells is like, the most telling first. To make these takes a while."""
    system = "|".join(sorted({re.escape(os.strerror(number)) for number in errno.errorcode}))
    # What a job file of ours says; what may be an exception, then what Python says of its end; a shell that finds no
    # Python, or a system that does not run it; a signal; what the worker says of the server, and what others call an
    # error; and any other line.
    return (
        re.compile(r"sheepdog: .*"),
        re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?:: .*)?$"),
        re.compile(r"Fatal Python error: .*"),
        re.compile(
            rf".*: (?:not found$|cannot execute|bad interpreter)|.*[Cc]ommand not found|.*[Uu]nknown command|"
            rf".*(?:symbol lookup|relocation|while loading shared libraries)|.*' not found \(required by|"
            rf".*Library not loaded|.*(?:^|[:(\]] ?)(?:{system})\b"
        ),
        re.compile(rf"(?:.*[:\d]\s+)?(?:{_SIGNALS})\b"),
        re.compile(
            r"(?i).*(?:cannot start in this directory|cannot reach https?://|no answer from the server)|"
            r".*\b(?:fatal|error|panic|critical|abort(?:ed)?)\b\]?:|"
            r"(?:.*: )?(?:could not|can(?:no|')t|unable to|failed to|not enough|out of memory|no space)\b"
        ),
        re.compile(r".*[^\s=*#_-].*"),
    )


def telling(texts: Iterable[str]) -> str:
    """Return the line that tells most, of the last lines of each file; the first of equal files and the last of equal
    lines count. An empty text if there is none.
    """
    texts = list(texts)
    for text in texts:
        if raised := re.findall(_TRACEBACK, text):
            return str(raised[-1]).strip()
    ends = [[line.strip() for line in text.splitlines()] for text in texts]
    for pattern in _patterns():
        for lines in ends:
            found = [line for line in lines if line not in _NOTHING and pattern.match(line)]
            if found:
                return found[-1]
    return ""


def explains(line: str) -> bool:
    """Tell whether a line says why a worker has ended, and not that something is wrong with its Python."""
    tells = any(pattern.match(line) for pattern in _patterns()[:-1])
    return tells and not re.match(_OF_PYTHON, line)
