"""A frame around a command that goes through a login shell, so that its start-up files can neither spoil nor hide it.

    to standard input:     exit 483917265     the mark, then the command's own input
    standard output:       ... 483917265 begin ... the command's own output ... 483917265 end 0 ...
    standard error:        the same

The mark is random and comes on standard input alone, so that nothing can print it that was not meant to. A shell that
a start-up file puts in our program's place reads it as a command, and ends.
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
    'printf "\\n%s begin\\n" "$mark"; printf "\\n%s begin\\n" "$mark" >&2; "$@"; status=$?; '
    'printf "\\n%s end %s\\n" "$mark" $status; printf "\\n%s end %s\\n" "$mark" $status >&2'
)
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


def answer(mark: int, output: bytes, errors: bytes) -> Answer:
    """Return the answer that is in what came back."""
    inner, begun, status = _cut(mark, output)
    said, _, _ = _cut(mark, errors)
    return Answer(inner, said, begun, status, not begun and _DISTURBED in output)


def _cut(mark: int, data: bytes) -> tuple[bytes, bool, int | None]:
    """Return what is in the frame, whether it was begun, and the status. Without a frame, all is."""
    begin = b"\n%d begin\n" % mark
    start = data.find(begin)
    end = data.rfind(b"\n%d end " % mark)
    found = re.compile(rb"\n\d+ end (\d+)\n").match(data, end) if end >= 0 else None
    first = start + len(begin) if start >= 0 else 0
    return data[first : end if found else None], start >= 0, int(found[1]) if found else None
