"""A frame around a command that goes through a login shell, so that its start-up files can neither spoil nor hide it.

    to standard input:     exit 483917265     the mark, then the command's own input
    standard output:       ... 483917265 begin 1 ... the command's own output ... 483917265 end 1 0 ...
    standard error:        ... 483917265 begin 2 ... the command's own words ...... 483917265 end 2 0 ...

The mark is random and comes on standard input alone, so that nothing can print it that was not meant to. A shell that
a start-up file puts in our program's place reads it as a command, and ends. Each stream has its number, so that it is
known again where a start-up file has made two of them one, or has put another program between.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

# One line without "!": csh takes no other. It says `disturbed` if somebody has read the mark before it.
_PROGRAM = (
    'IFS= read -r mark; case $mark in "exit "[0-9]*) mark=${mark#exit };; '
    '*) printf "\\nsheepdog:%s\\n" disturbed; exit 1;; esac; '
    'printf "\\n%s begin 1 \\t\\r\\377\\n" "$mark"; printf "\\n%s begin 2 \\t\\r\\377\\n" "$mark" >&2; '
    '"$@"; status=$?; '
    'printf "\\n%s end 1 %s\\n" "$mark" $status; printf "\\n%s end 2 %s\\n" "$mark" $status >&2'
)
_TEXT = b"\t\r\xff"  # what no program between leaves as it is, if it is made for lines of text
_DISTURBED = b"\nsheepdog:disturbed\n"


def new_mark() -> int:
    """Return a mark: the status of `exit` is a number that every shell can read."""
    return 10**8 + secrets.randbelow(9 * 10**8)


def framed(command: Sequence[str]) -> list[str]:
    """Return the command that runs a command in a frame."""
    return ["sh", "-c", _PROGRAM, "sh", *command]


def opening(mark: int) -> bytes:
    """Return what goes to standard input before the command's own input."""
    return b"exit %d\n" % mark


class Answer(NamedTuple):
    """What came back. Without begin the command was not run; without status it may not have come to its end."""

    output: bytes
    errors: bytes
    begun: bool
    status: int | None
    disturbed: bool = False
    """Somebody has read the mark before it came to the command."""
    redirected: bool = False
    """What the command printed cannot be told from other words, or does not come."""


class _Part(NamedTuple):
    """A stream of the command, as it is in one that came back."""

    inner: bytes
    status: int | None
    exact: bool
    """It has come once, and as it was."""


def answer(mark: int, output: bytes, errors: bytes) -> Answer:
    """Return the answer that is in what came back."""
    came = (output, errors)
    parts = [[_cut(mark, stream, data) for data in came] for stream in (1, 2)]
    printed, said = ([part for part in places if part] for places in parts)
    begun = bool(printed or said)
    redirected = (
        max(len(printed), len(said)) > 1
        or any(one and other for one, other in zip(*parts, strict=True))
        or any(not part.exact for part in printed + said)
        or (not printed and any(part.status is not None for part in said))
    )
    if redirected or not printed:
        disturbed = not begun and any(_DISTURBED in data for data in came)
        return Answer(output, said[0].inner if said else errors, begun, None, disturbed, redirected)
    inner, status, _ = printed[0]
    words = said[0].inner if said else errors if status is None else b""
    return Answer(inner, words, begun, status)


def is_mark(line: str) -> bool:
    """Tell whether a line of what came is the frame's."""
    return re.match(r"\d{9} (begin|end) [12] ", line) is not None


def inside(mark: int, output: bytes) -> bytes | None:
    """Return what a command has printed so far, by what has come of its standard output; None if it has not begun."""
    _, begun, inner = output.partition(b"\n%d begin 1 %s\n" % (mark, _TEXT))
    return inner if begun else None


def ended(mark: int, data: bytes) -> bool:
    """Tell whether the command has ended, by what has come of a stream."""
    return re.search(rb"\n%d end [12] \d+\n" % mark, data) is not None


def _cut(mark: int, stream: int, data: bytes) -> _Part | None:
    """Return what is of a stream in what came back; None if nothing is."""
    if not re.search(rb"%d (?:begin|end) %d" % (mark, stream), data):
        return None
    _, *begun = data.split(b"\n%d begin %d %s\n" % (mark, stream, _TEXT))
    if len(begun) != 1:
        return _Part(data, None, False)
    inner, *ends = re.split(rb"\n%d end %d (\d+)\n" % (mark, stream), begun[0])
    return _Part(inner, int(ends[0]) if ends else None, len(ends) <= 2)
