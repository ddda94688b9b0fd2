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
from .model import Outcome, Progress
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
    dbfile = os.path.expanduser(settings.dbfile)
    try:
        progress = wait(request_id, dbfile, _ticker(1.0) if verbose and sys.stderr.isatty() else _notes(verbose))
    except KeyboardInterrupt:
        if verbose:
            _say(f"request {request_id} goes on; fetch it with sheepdog.get_results({request_id}, {settings.dbfile!r})")
        raise
    results: list[Any] = [None] * progress.tasks
    with Storage(dbfile) as storage:
        for index, data in storage.results(request_id):
            results[index - 1] = _load(data, index, request_id)
    if verbose and progress.failed:
        tasks = "task" if progress.tasks == 1 else "tasks"
        _say(
            f"{progress.failed} of {progress.tasks} {tasks} failed; their errors are in "
            f"sheepdog.get_errors({request_id}, {settings.dbfile!r})"
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
        results = dict(storage.results(request_id))
        return [
            (deserialise_arguments(args), _load(results.pop(index), index, request_id) if index in results else None)
            for index, args in enumerate(storage.arguments(request_id), 1)
        ]


def get_errors(request_id: int, dbfile: str | os.PathLike[str]) -> list[tuple[Any, str]]:
    """Return [(args, error)] of the tasks that failed so far, in order.

    An error is text. Its first line says what happened; then come the task, the attempt, the host, the remote
    traceback and the end of the task's own output. Raises ValueError if there is no such request.
    """
    _require(dbfile)
    with Storage(dbfile) as storage:
        return [
            (deserialise_arguments(args), describe(request_id, outcome)) for args, outcome in storage.errors(request_id)
        ]


def _require(dbfile: str | os.PathLike[str]) -> None:
    if not os.path.exists(dbfile):
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


def _load(data: bytes, index: int, request_id: int) -> Any:
    try:
        return deserialise(data)
    except Exception as error:
        error.add_note(f"(while loading the result of task {index} of request {request_id})")
        raise


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
