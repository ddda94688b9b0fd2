"""The autopsy: how a child ended, and the outcome of the task that it died of."""

import collections
import os
import signal
import time

from ..child.pipe import NO_PIPE
from ..memory import group_limits, memory_kills
from ..wire.outcomes import DIED, MEMORY, Outcome
from ..words import out_of_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .child import Child

Autopsy = collections.namedtuple("Autopsy", "how found outcome left")
# how      it ended, in words
# found    the outcomes that it had still to tell
# outcome  of the task that it died of; None if there is none
# left     the tasks that it had not begun


def autopsy(child: "Child") -> Autopsy:
    """Return how a child ended; end it if it has not."""
    deadline = time.monotonic() + (1.0 if child.parting is not None else 0.0)
    while not child.has_ended() and time.monotonic() < deadline:
        time.sleep(0.002)
    how = in_words(child.status)
    found = child.finish()
    left = child.recall()
    outcome = None
    if child.running:  # it had a token for this one
        index, (attempt, _) = next(iter(child.running.items()))
        kind, text = child.verdict or cause_of_death(child, how)
        seconds = time.monotonic() - child.since
        outcome = death(child, index, attempt, kind, text, seconds, child.capture.end())
    child.running.clear()
    child.close()
    return Autopsy(how, found, outcome, left)


def death(
    child: "Child", index: int, attempt: int, kind: int, text: str, seconds: float = 0.0, output: bytes = b""
) -> Outcome:
    """Return the outcome of a task whose process has ended."""
    return Outcome(
        task=index,
        attempt=attempt,
        kind=kind,
        seconds=seconds,
        value=text.encode(),
        output=output,
        signal=signal_of(child.status),
        status=exit_status_of(child.status),
        peak=child.peak,
    )


def cause_of_death(child: "Child", how: str) -> "tuple[int, str]":
    """Return the kind and the text of the outcome of a task whose process ended by itself, or by another's hand."""
    if signal_of(child.status) == signal.SIGKILL and have_grown(child.kills, memory_kills()):
        limit = child.secret.get("memory_limit")
        return MEMORY, out_of_memory(child.peak, group_limits() + ([limit] if limit else []))
    if has_no_pipe(child.status):
        return DIED, "the task's process %s: the outcome was lost" % how
    return DIED, "the task's process %s before the function returned" % how


def have_grown(before: "list[int]", after: "list[int]") -> bool:
    """Tell whether one of the same counts is larger than it was."""
    return len(before) == len(after) and any(now > then for then, now in zip(before, after))


def in_words(status: "int | None") -> str:
    """Return how a process of this wait status ended; None is one that still ran."""
    if status is None:
        return "was ended"
    number = signal_of(status)
    if number:
        names = {int(s): s.name for s in signal.Signals}
        return "was killed by signal %d (%s)" % (number, names.get(number, "?"))
    if has_no_pipe(status):
        return "closed all its files, the worker's too"
    return "exited with status %d" % os.WEXITSTATUS(status)


def signal_of(status: "int | None") -> int:
    """Return the number of the signal that ended a process of this wait status; 0 if none did."""
    return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0


def exit_status_of(status: "int | None") -> "int | None":
    """Return the exit status that a function chose for its process; None if it did not."""
    if status is None or not os.WIFEXITED(status) or has_no_pipe(status):
        return None
    return os.WEXITSTATUS(status)


def has_no_pipe(status: "int | None") -> bool:
    """Tell whether a child of this wait status could not report any more."""
    return status is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status) == NO_PIPE
