"""What workers and the server say to each other: a call and its reply, and what of a call is accepted.

How it travels is in client/frames.py and door.py (HTTP).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .model import Kind, Outcome, StoredBlob

WORKER_KINDS = {int(kind): kind for kind in Kind if kind <= Kind.INTERRUPTED}
MAX_HELD = 1 << 16  # tasks that a worker may say it holds


@dataclass(frozen=True, slots=True)
class Call:
    """A worker's call. verb is "join" or "exchange"; blobs are bytes, or files if they are large."""

    request: int
    verb: str
    header: dict[str, Any]
    blobs: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer: an HTTP status, and with 200 a header and blobs, else text."""

    header: dict[str, Any]
    blobs: list[bytes | StoredBlob] = field(default_factory=list)
    status: int = 200
    text: str = ""
    hold: float = 0.0
    """Seconds in which it may be worth to ask the service again, before this is sent: there is no task yet."""


def refuse(status: int, text: str) -> Reply:
    """Return a reply that says no."""
    return Reply({}, [], status, text)


class Said(NamedTuple):
    """What a worker says in an exchange."""

    outcomes: list[Outcome]
    held: dict[int, int]
    want: int
    number: int
    """Of its call."""
    leaving: float | None
    """In how many seconds it ends."""
    reason: str
    """Why it does."""


def read_exchange(call: Call) -> Said:
    """Check what a worker says, and return it."""
    header = call.header
    entries, want, number = header["outcomes"], header["want"], header["call"]
    if len(call.blobs) != 2 * len(entries):
        raise ValueError(f"{len(entries)} outcomes need {2 * len(entries)} blobs, not {len(call.blobs)}")
    if type(want) is not int or type(number) is not int or not 0 <= want <= 1 << 20 or not 1 <= number < 1 << 62:
        raise ValueError("want and call must be numbers")
    host = clean(header.get("host"))
    outcomes = []
    for (index, attempt, kind, seconds), value, output in zip(entries, call.blobs[::2], call.blobs[1::2], strict=True):
        if type(index) is not int or type(attempt) is not int or not 0 < attempt < 1 << 31:
            raise ValueError("an outcome needs the numbers of its task and attempt")
        if type(kind) is not int or not math.isfinite(seconds) or not isinstance(output, bytes):
            raise ValueError("an outcome needs its kind, its run time, and an output that is not large")
        outcomes.append(Outcome(index, WORKER_KINDS[kind], value, attempt, host, float(seconds), output))
    held: dict[int, int] = {}
    for first, last, attempt in header["holding"]:
        if not type(first) is type(last) is type(attempt) is int or not 0 < attempt < 1 << 31:
            raise ValueError("holding must be runs: the first task, the last, the attempt")
        if not 0 <= last - first < MAX_HELD - len(held):
            raise ValueError(f"a worker holds {MAX_HELD} tasks at most")
        held.update(dict.fromkeys(range(first, last + 1), attempt))
    leaving = header.get("leaving")
    if leaving is None:
        return Said(outcomes, held, want, number, None, "")
    seconds = float(leaving["seconds"])
    if not 0 <= seconds <= 1e9:
        raise ValueError("leaving must say in how many seconds")
    return Said(outcomes, held, want, number, seconds, clean(leaving["reason"]))


def clean(text: Any) -> str:
    """Return what a worker says of itself as a short text that can be stored and shown."""
    return str("" if text is None else text)[:255].encode("utf-8", "replace").decode()


def mismatch(form: dict[str, Any], python: Any, host: str) -> str:
    """Return why a worker's Python cannot load a function of this form, or an empty text."""
    if not isinstance(python, dict):
        return "the worker does not say what Python it runs"
    if all(python.get(key) == form.get(key) for key in ("implementation", "magic")):
        return ""
    theirs = "{} {} ({})".format(*(clean(python.get(key)) for key in ("implementation", "version", "executable")))
    minor = ".".join(str(form.get("version")).split(".")[:2])
    return (
        f"the worker on {host} runs {theirs}, the function was made by {form.get('implementation')} "
        f"{form.get('version')}: set the option `shell` to a Python {minor} there"
    )
