"""The first front door: map a function over argument tuples, and fetch what came of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .config import Config, make_config
from .dispatch import dispatch, wait
from .errors import StorageError
from .model import Outcome, Progress, State
from .serialisation import deserialise, deserialise_arguments
from .storage import Storage


def map(
    f: Callable[..., Any],
    args: Iterable[Any],
    config: Mapping[str, Any] | str | Config | None = None,
    ns: Mapping[str, Any] | None = None,
    verbose: bool = True,
) -> list[Any]:
    """Run f with each of args on the cluster, wait, and return the results in the order of args.

    Each item of args is a tuple or a list of positional arguments, or a dict of keyword arguments. config is a dict
    of options, the name of a profile, or None for the defaults: without a host, the Grid Engine of this machine if it
    has one, else its own processes. ns holds names that f needs beside its own globals; they win over those. Where a
    task failed its result is None, and if verbose a line on standard error says so. Interrupted, the request goes on.

    Raises TypeError for what cannot be serialised, ValueError for a wrong configuration, and other SheepdogErrors
    for a host, a scheduler or a database file that cannot be used; then nothing is left behind.
    """
    settings = make_config(config)
    request_id = dispatch(f, args, settings, ns)
    dbfile = os.path.abspath(os.path.expanduser(settings.dbfile))
    try:
        progress = wait(request_id, dbfile, _ticker(1.0) if verbose and sys.stderr.isatty() else _notes(verbose))
    except KeyboardInterrupt:
        if verbose:
            _say(f"request {request_id} goes on; fetch it with sheepdog.get_results({request_id}, {dbfile!r})")
        raise
    results: list[Any] = [None] * progress.tasks
    with Storage(dbfile) as storage:
        unreadable = 0
        for index, data in storage.results(request_id):
            results[index - 1], problem = load(data)
            unreadable += problem is not None
    if verbose and progress.failed + unreadable:
        tasks = "task" if progress.tasks == 1 else "tasks"
        _say(
            f"{progress.failed + unreadable} of {progress.tasks} {tasks} failed; their errors are in "
            f"sheepdog.get_errors({request_id}, {dbfile!r})"
        )
    return results


def map_async(
    f: Callable[..., Any],
    args: Iterable[Any],
    config: Mapping[str, Any] | str | Config | None = None,
    ns: Mapping[str, Any] | None = None,
) -> int:
    """Submit f with each of args, as map does, and return the request's id as soon as the array job is submitted."""
    return dispatch(f, args, config, ns)


def get_results(
    request_id: int, dbfile: str | os.PathLike[str], block: bool = True, verbose: bool = False
) -> list[tuple[Any, Any]]:
    """Return [(args, result)] of a request, in order; result is None where a task failed or has not ended.

    If block, wait until every task has ended; if verbose too, say each second on standard error how many have.
    Raises ValueError if there is no such request.
    """
    _require(dbfile)
    if block:
        wait(request_id, dbfile, _ticker(1.0) if verbose else _notes(False))
    with Storage(dbfile) as storage:
        return [
            (load_arguments(args), load(value)[0] if state == State.DONE else None)
            for args, state, value in storage.tasks(request_id)
        ]


def get_errors(request_id: int, dbfile: str | os.PathLike[str]) -> list[tuple[Any, str]]:
    """Return [(args, error)] of the tasks that failed so far, in order.

    An error is text. Its first line says what happened; then come the task, the attempt, the host, the remote
    traceback and the end of the task's own output. A result that cannot be loaded here counts as an error, too. Raises
    ValueError if there is no such request.
    """
    _require(dbfile)
    with Storage(dbfile) as storage:
        failed = {outcome.task: describe(request_id, outcome) for _, outcome in storage.errors(request_id)}
        errors = []
        for index, (args, state, value) in enumerate(storage.tasks(request_id), 1):
            error = failed.get(index)
            if state == State.DONE and b"\x93" in value:  # it names a class or a function
                error = load(value)[1]
            if error is not None:
                errors.append((load_arguments(args), error))
        return errors


def _require(dbfile: str | os.PathLike[str]) -> None:
    if not os.path.exists(os.path.expanduser(dbfile)):
        raise StorageError(
            f"there is no database {os.fspath(dbfile)!r}: give the dbfile that the request was made with"
        )


def describe(request_id: int, outcome: Outcome) -> str:
    """Return an error as text for people."""
    text = outcome.value.decode("utf-8", "replace") if isinstance(outcome.value, bytes) else str(outcome.value)
    summary, _, rest = text.partition("\n")
    where = f", on {outcome.host}, after {outcome.seconds:.2f} s" if outcome.host else ", never run"
    attempt = f", attempt {outcome.attempt}" if outcome.host else ""
    lines = [summary, f"(task {outcome.task} of request {request_id}{attempt}{where})"]
    if rest.strip():
        lines.append(rest.rstrip())
    if outcome.output:
        lines += ["The end of its output:", outcome.output.decode("utf-8", "replace").rstrip()]
    return "\n".join(lines)


def load(data: bytes) -> tuple[Any, str | None]:
    """Return a result, and why it cannot be loaded here, if so. One must not withhold the others."""
    try:
        return deserialise(data), None
    except Exception as error:
        return None, (
            f"the result cannot be loaded here: {type(error).__name__}: {error}\n"
            f"(it is stored, {len(data)} bytes; what it needs is there on the cluster, and not here)"
        )


def load_arguments(data: bytes) -> Any:
    """Return an item of args, or a text that says why it cannot be loaded here."""
    try:
        return deserialise_arguments(data)
    except Exception as error:
        return f"<arguments that cannot be loaded: {type(error).__name__}: {error}>"


def _notes(verbose: bool) -> Callable[[Progress], None]:
    """Return what shows a request's notes, each once."""
    said = {""}

    def show(progress: Progress) -> None:
        if verbose and progress.note not in said:
            said.add(progress.note)
            _say(progress.note)

    return show


def _ticker(interval: float) -> Callable[[Progress], None]:
    """Return what shows the progress, at most once an interval of seconds, and the notes."""
    notes = _notes(True)
    start = last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        notes(progress)
        now = time.monotonic()
        if now - last >= interval or (progress.finished and last > start):
            last = now
            _say(str(progress))

    return show


def _say(text: str) -> None:
    print(f"sheepdog: {text}", file=sys.stderr, flush=True)
