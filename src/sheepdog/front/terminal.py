"""What a user is told while they wait, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ..errors import SheepdogError
from ..printable import printable
from ..values.model import Progress
from .waiting import wait


def wait_aloud(
    request_id: int,
    dbfile: str,
    verbose: bool = True,
    timeout: float | None = None,
    say: Callable[[str], None] | None = None,
) -> Progress:
    """Wait as map does, or for so many seconds: if verbose, tell on standard error what the user should know."""
    say = say or say_once(verbose)
    try:
        return wait(request_id, dbfile, ticker(1.0, say) if verbose and sys.stderr.isatty() else notes(say), timeout)
    except KeyboardInterrupt:
        if verbose:
            say_aloud(f"request {request_id} goes on; fetch it with sheepdog.get_results({request_id}, {dbfile!r})")
        raise
    except SheepdogError as error:
        error.add_note(f"(request {request_id} is stored; go on with sheepdog.get_results({request_id}, {dbfile!r}))")
        raise


def notes(say: Callable[[str], None]) -> Callable[[Progress], None]:
    """Return a function that shows the notes of a request, as say_once does."""
    return lambda progress: say(progress.note)


def say_once(verbose: bool) -> Callable[[str], None]:
    """Return a function that tells the user a text on standard error, each once, if verbose."""
    said = {""}

    def say(text: str) -> None:
        if verbose and text not in said:
            said.add(text)
            say_aloud(text)

    return say


def ticker(interval: float, say: Callable[[str], None]) -> Callable[[Progress], None]:
    """Return a function that shows how far a request is, once an interval of seconds at most, and its notes."""
    noted = notes(say)
    start = last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        noted(progress)
        now = time.monotonic()
        if now - last >= interval or (progress.finished and last > start):
            last = now
            say_aloud(progress.summary)

    return show


def say_aloud(text: str) -> None:
    """Tell the user something on standard error."""
    print(f"sheepdog: {printable(text)}", file=sys.stderr, flush=True)
