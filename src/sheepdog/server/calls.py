"""What workers and the server say to each other: a call and its reply, and what of a call is accepted.

How it travels is in client/wire/frames.py and server/http.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..client import CHECKPOINT, MAX_BATCH, REPORT, Message
from ..client.wire.limits import WORDS
from ..client.wire.records import NO_STATUS, RECORD
from ..printable import printable
from ..values.forms import Form, choose
from ..values.model import Kind, Outcome, StoredBlob

WORKER_KINDS = {int(kind): kind for kind in Kind if kind <= Kind.INTERRUPTED}
MOST_PACKAGES = 1000  # that a worker may say are not there
MOST_UNFIT = 2000  # characters: there is a path in it
MAX_HELD = 1 << 16  # tasks that a worker may say it holds
MOST_RECORDS = 8 * MAX_BATCH  # in a call; a worker brings a quarter of it


class Call(NamedTuple):
    """A worker's call. verb is "join" or "exchange"; blobs are bytes, or files if they are large."""

    request: int
    verb: str
    header: dict[str, Any]
    blobs: Sequence[Any] = ()


class Reply(NamedTuple):
    """The answer: an HTTP status, and with 200 a header and blobs, else text."""

    header: dict[str, Any]
    blobs: Sequence[bytes | StoredBlob] = ()
    status: int = 200
    text: str = ""
    hold: float = 0.0
    """Seconds in which it may be worth to ask the service again, before this is sent: there is no task yet."""


def refuse(status: int, text: str) -> Reply:
    """Return a reply that says no."""
    return Reply({}, [], status, text)


class Lacking(NamedTuple):
    """A package that a worker has not got, or not as it is here."""

    name: str
    version: str
    """That is there; empty if it is not."""
    module: str = ""
    """Of it, that is not there."""


class Said(NamedTuple):
    """What a worker says in an exchange."""

    messages: list[Message]
    """Of tasks, before they ended."""
    outcomes: list[Outcome]
    held: dict[int, int]
    want: int
    number: int
    """Of its call."""
    leaving: float | None
    """In how many seconds it ends."""
    reason: str
    """Why it does."""
    running: tuple[int, int, float]
    """The task that it runs, the attempt, and for how many seconds it has; index 0 is none."""
    functions: list[str]
    """That it asks for, by their hashes."""
    words: list[str]
    """For the user, of modules that it could not import."""
    others: list[Lacking]
    """Packages that are not there, or of another version than here, which its tasks may need."""
    unfit: str = ""
    """Why its Python cannot load the function."""
    way: tuple[str, str, str] = ("", "", "")
    """By which way it calls, if that is news: "direct" or "relay"; the address; and why by no better one."""

    @property
    def tasks(self) -> set[int]:
        """The tasks of which it says something new."""
        return {outcome.task for outcome in self.outcomes} | {message.task for message in self.messages}


def read_exchange(call: Call) -> Said:
    """Check what a worker says, and return it."""
    header = call.header
    entries, said, want, number = header["outcomes"], header.get("messages", []), header["want"], header["call"]
    blobs, rest = call.blobs[: 2 * len(entries)], call.blobs[2 * len(entries) :]
    values, records = rest[: len(said)], rest[len(said) :]
    expected = 2 * len(entries) + len(said) + header.get("records", 0)
    if len(call.blobs) != expected or len(records) != header.get("records", 0):
        expected = f"{expected} blobs, not {len(call.blobs)}"
        raise ValueError(f"{len(entries)} outcomes and {len(said)} messages need {expected}")
    if type(want) is not int or type(number) is not int or not 0 <= want <= 1 << 20 or not 1 <= number < 1 << 62:
        raise ValueError("want and call must be numbers")
    host = clean(header.get("host"))
    outcomes = read_outcomes(entries, blobs, host) + read_records(records, host)
    held = read_held(header["holding"])
    leaving, reason = read_leaving(header.get("leaving"))
    running = read_running(header.get("running"), held)
    functions = read_names(header.get("functions", []))
    words = header.get("words", [])
    if not isinstance(words, list) or len(words) > WORDS:
        raise ValueError(f"words must be a list of {WORDS} texts at most")
    messages, words = read_messages(said, values), [*map(clean, words)]
    others = read_lacking(header.get("others"))
    unfit = clean(header.get("unfit"), MOST_UNFIT)
    about = messages, outcomes, held, want, number, leaving, reason, running, functions, words, others, unfit
    return Said(*about, read_way(header.get("way")))


def read_lacking(said: Any) -> list[Lacking]:
    """Check which packages a worker says that it has not, or of another version, and return them."""
    if not isinstance(said or [], list) or len(said or []) > MOST_PACKAGES:
        raise ValueError(f"packages must be a list of {MOST_PACKAGES} at most")
    return [Lacking(*map(clean, (name, version, module))) for name, version, module in said or ()]


def read_way(said: Any) -> tuple[str, str, str]:
    """Check by which way a worker says that it calls."""
    way, place, why = said or ("", "", "")
    return clean(way), clean(place), clean(why)


def read_names(said: Any) -> list[str]:
    """Check which functions a worker asks for, and return their hashes."""
    if not isinstance(said, list) or len(said) > MAX_BATCH:
        raise ValueError("functions must be a list of hashes")
    if not all(isinstance(name, str) and re.fullmatch("[0-9a-f]{64}", name) for name in said):
        raise ValueError("a function is named by its hash")
    return said


def read_outcomes(entries: list[Any], blobs: Sequence[Any], host: str) -> list[Outcome]:
    """Check the outcomes that a worker on this host brings, and return them. Each has two blobs: value and output."""
    outcomes = []
    for entry, value, output in zip(entries, blobs[::2], blobs[1::2], strict=True):
        index, attempt, kind, seconds, number, status, peak = entry if len(entry) > 4 else (*entry, 0, None, 0)
        if type(index) is not int or type(attempt) is not int or not 0 < attempt < 1 << 31:
            raise ValueError("an outcome needs the numbers of its task and attempt")
        if type(kind) is not int or not math.isfinite(seconds) or not isinstance(output, bytes):
            raise ValueError("an outcome needs its kind, its run time, and an output that is not large")
        if type(number) is not int or type(peak) is not int or not 0 <= number < 1 << 16 or not 0 <= peak < 1 << 62:
            raise ValueError("the signal and the peak memory of an outcome are numbers")
        if status is not None and (type(status) is not int or abs(status) >= 1 << 31):
            raise ValueError("the status of an outcome is a number, or nothing")
        # By place: by name it takes three times as long, for each task.
        about = (index, attempt, WORKER_KINDS[kind], float(seconds), value, output, host, 0, number, status, peak)
        outcomes.append(Outcome(*about))
    return outcomes


def read_records(records: Sequence[Any], host: str) -> list[Outcome]:
    """Check the outcomes that a worker on this host brings as its child has written them, and return them."""
    outcomes: list[Outcome] = []
    unpack, finite = RECORD.unpack_from, math.isfinite
    for data in records:
        at, end = 0, len(data)
        for _ in range(MOST_RECORDS):
            if at >= end:
                break
            try:
                index, attempt, kind, seconds, status, peak, length, more = unpack(data, at)
            except struct.error:
                raise ValueError("a record is cut off") from None
            begin = at + RECORD.size
            middle = begin + length
            at = middle + more
            if not 0 < attempt < 1 << 31 or not finite(seconds) or peak >= 1 << 62 or at > end:
                raise ValueError("a record needs an attempt, a run time, a peak memory, and all that it says it has")
            known = None if status == NO_STATUS else status
            value, output = data[begin:middle], data[middle:at]
            outcomes.append(
                Outcome(index, attempt, WORKER_KINDS[kind], seconds, value, output, host, 0, 0, known, peak)
            )
        if at < end or len(outcomes) > MOST_RECORDS:
            raise ValueError(f"a call brings {MOST_RECORDS} records at most")
    return outcomes


def read_messages(entries: list[Any], values: Sequence[Any]) -> list[Message]:
    """Check what tasks say before they end, and return it."""
    messages = []
    for (index, attempt, kind, which), value in zip(entries, values, strict=True):
        numbers = type(index) is type(attempt) is type(which) is int
        if not numbers or not 0 < attempt < 1 << 31 or not 0 < which < 1 << 62:
            raise ValueError("a message needs the numbers of its task and attempt, and its own")
        if kind not in (REPORT, CHECKPOINT):
            raise ValueError("a message is a report or a checkpoint")
        messages.append(Message(index, attempt, kind, which, value))
    return messages


def read_held(holding: list[Any]) -> dict[int, int]:
    """Check which tasks a worker holds, and return the attempt of each."""
    held: dict[int, int] = {}
    for first, last, attempt in holding:
        if not type(first) is type(last) is type(attempt) is int or not 0 < attempt < 1 << 31:
            raise ValueError("holding must be runs: the first task, the last, the attempt")
        if not 0 <= last - first < MAX_HELD - len(held):
            raise ValueError(f"a worker holds {MAX_HELD} tasks at most")
        held.update(dict.fromkeys(range(first, last + 1), attempt))
    return held


def read_leaving(said: Any) -> tuple[float | None, str]:
    """Check whether a worker is about to end; return in how many seconds, None if it is not, and why."""
    if said is None:
        return None, ""
    seconds = float(said["seconds"])
    if not 0 <= seconds <= 1e9:
        raise ValueError("leaving must say in how many seconds")
    return seconds, clean(said["reason"])


def read_running(said: Any, held: dict[int, int]) -> tuple[int, int, float]:
    """Check what a worker runs, and return it. One that does not say runs the first task that it holds."""
    if said is None:
        return (*next(iter(held.items()), (0, 0)), 0.0)
    index, attempt, seconds = said
    if type(index) is not int or type(attempt) is not int or not 0 < index < 1 << 32 or not 0 < attempt < 1 << 31:
        raise ValueError("running must be the numbers of a task and its attempt, and the seconds that it has run")
    if not 0 <= seconds <= 1e9:
        raise ValueError("a task has run for a number of seconds")
    return index, attempt, float(seconds)


def clean(text: Any, most: int = 255) -> str:
    """Return what a worker says of itself as a short text that can be stored and shown."""
    return printable(str("" if text is None else text)[:most].encode("utf-8", "replace").decode())


def fitting(form: dict[str, Any], python: Any, host: str) -> Form | str:
    """Return the form of a function that a worker's Python can load, or the sentence that says why it cannot."""
    facts = {key: clean(value) for key, value in python.items()} if isinstance(python, dict) else None
    return choose([Form.read(form)], facts, host)
