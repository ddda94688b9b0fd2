"""The line of a worker's output that tells most: an error before a banner, standard error before standard output."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", re.MULTILINE)
# The most telling first. What a job file of ours says; what may be an exception, then what Python says of its end; a
# shell that finds no Python; what the worker says of the server; and any other line.
_TELLING = (
    re.compile(r"sheepdog: .*"),
    re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)(?:: .*)?$"),
    re.compile(r"Fatal Python error: .*"),
    re.compile(r".*: (?:not found|No such file or directory|Permission denied|cannot execute.*|.*command not found)$"),
    re.compile(r".*(?:cannot start in this directory|cannot reach https?://|no answer from the server|[Ee]rror:).*"),
    re.compile(r".*[^\s=*#_-].*"),
)
_NOTHING = ("<no Python frame>",)


def telling(texts: Iterable[str]) -> str:
    """Return the line that tells most, of the last lines of each file; the first of equal files and the last of equal
    lines count. An empty text if there is none.
    """
    texts = list(texts)
    for text in texts:
        if raised := _TRACEBACK.findall(text):
            return str(raised[-1]).strip()
    ends = [[line.strip() for line in text.splitlines()] for text in texts]
    for pattern in _TELLING:
        for lines in ends:
            found = [line for line in lines if line not in _NOTHING and pattern.match(line)]
            if found:
                return found[-1]
    return ""
