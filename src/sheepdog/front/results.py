"""What came of a task or a request, for its user: a result loaded, or an error as text or as an exception."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .. import client
from ..config.options import Options
from ..errors import JobError, NotRun, TaskFailed, UntrustedResult
from ..printable import printable
from ..storage import Storage
from ..values.model import ALIKE, Cause, Kind, Outcome
from ..values.ranges import runs_of
from ..values.serialisation import deserialise, deserialise_arguments

ENDED_BY = {Kind.TIMEOUT: signal.SIGTERM, Kind.INTERRUPTED: signal.SIGTERM, Kind.LOST: signal.SIGKILL}


def describe(request_id: int, outcome: Outcome, before: Iterable[Outcome] = ()) -> str:
    """Return an error as text for people; before are the task's earlier attempts."""
    summary, _, rest = outcome.text.partition("\n")
    unheard = f", begun {outcome.attempts} times at most" if outcome.attempts else ", never run"
    where = f", on {outcome.host}, after {outcome.seconds:.2f} s" if outcome.host else unheard
    attempt = f", attempt {outcome.attempt}" if outcome.host else ""
    lines = [summary, f"(task {outcome.task} of request {request_id}{attempt}{where})"]
    if rest.strip():
        lines.append(rest.rstrip())
    if outcome.output:
        lines += ["The end of its output:", outcome.output.decode("utf-8", "replace").rstrip()]
    for earlier in before:
        where = f", on {earlier.host}" if earlier.host else ""
        which = f"Attempt {earlier.attempt}" if earlier.attempt else "Before"
        lines.append(f"{which}{where}: {earlier.text.splitlines()[0]}")
    return printable("\n".join(lines))


class ErrorText(str):
    """An error as get_errors tells it: text; and in numbers what a TaskFailed has."""

    request: int
    task: int
    kind: Kind
    signal: int
    status: int | None
    peak: int

    @classmethod
    def of(cls, request_id: int, outcome: Outcome, text: str) -> ErrorText:
        """Return the text with the numbers of an outcome."""
        made = cls(text)
        made.request, made.task, made.kind = request_id, outcome.task, outcome.kind
        made.signal, made.status, made.peak = outcome.signal, outcome.status, outcome.peak
        return made


def conclude(request_id: int, storage: Storage) -> list[Cause]:
    """Return why tasks of a request that has ended have no result, the most frequent cause first.

    Raises NotRun if none of them was ever begun, and that is not what their user wanted.
    """
    progress = storage.progress(request_id)
    causes = storage.causes(request_id) if progress.failed + progress.cancelled else []
    reason = next((cause.line for cause in causes if cause.kind == Kind.NOT_RUN), None)
    never = sum(cause.tasks - cause.begun for cause in causes if cause.kind in (Kind.NOT_RUN, Kind.CANCELLED))
    if reason is not None and never == progress.tasks:
        raise NotRun(
            f"no task of request {request_id} could be run: {reason.removeprefix('not run: ')}\n"
            f"(when that is mended, sheepdog.retry({request_id}, {storage.dbfile!r}) runs them)",
            request_id,
            kind=Kind.NOT_RUN,
        )
    return causes


def summary(tasks: int, causes: Sequence[Cause], errors: str) -> str:
    """Return in a line how many of so many tasks have no result, and what most of them say.

    errors is the call that returns the errors.
    """
    without = sum(cause.tasks for cause in causes)
    said: Counter[str] = Counter()
    for cause in causes:
        said[cause.line] += cause.tasks
    for line in [line for line in said if ALIKE in line and len(said) > 1]:  # they were not run because of the others
        count = said.pop(line)
        said[said.most_common(1)[0][0]] += count
    [(line, alike)] = said.most_common(1)
    cancelled = all(cause.kind == Kind.CANCELLED for cause in causes)
    how = ("was cancelled" if without == 1 else "were cancelled") if cancelled else "failed"
    among = f", {alike} alike" if alike > 1 else ", the first" if without > 1 else ""
    whose = "its error is" if without == 1 else "their errors are"
    return f"{without} of {tasks} task{'s' * (tasks != 1)} {how}{among}: {line}; {whose} in {errors}"


def load(data: bytes, trusted: bool = True, what: str = "result") -> tuple[Any, str | None]:
    """Return what a task gave, and why it cannot be loaded here, if so. One must not withhold the others."""
    try:
        return client.load(data) if trusted else deserialise(data, False), None
    except (UntrustedResult, KeyboardInterrupt):
        raise
    except BaseException as error:  # a SystemExit, too: what is loaded may be a script that ends itself
        return None, (
            f"the {what} cannot be loaded here: {type(error).__name__}: {error}\n"
            f"(it is stored, {len(data)} bytes; what it needs is there on the cluster, and not here)"
        )


def unreadable(data: bytes, trusted: bool) -> str | None:
    """Return why a result cannot be loaded here, None if it can."""
    try:
        return load(data, trusted)[1]
    except UntrustedResult as error:
        return str(error)


def load_arguments(data: bytes, storage: Storage, trusted: bool = True) -> Any:
    """Return an item of args, or a text that says why it cannot be loaded here."""
    try:
        return deserialise_arguments(data, trusted, storage.file)
    except Exception as error:
        return f"<arguments that cannot be loaded: {type(error).__name__}: {error}>"


def error_of(request_id: int, outcome: Outcome, trusted: bool = True) -> BaseException:
    """Return an error as an exception to be raised.

    It is the one that the function raised, with a TaskFailed that says where as its cause, if there is one that can be
    rebuilt here; to rebuild it is to run what it says, so unless trusted it is not. Otherwise it is the TaskFailed.
    """
    numbers = (outcome.task, outcome.kind, outcome.signal, outcome.status, outcome.peak)
    failed = failure(outcome.kind)(describe(request_id, outcome), request_id, *numbers)
    if not trusted or not outcome.exception:
        return failed
    try:
        error = deserialise(outcome.exception)
    except KeyboardInterrupt:
        raise
    except BaseException:  # its class is not there, or wants other arguments than it keeps; or it exits
        return failed
    if not isinstance(error, BaseException):
        return failed
    error.__cause__ = failed
    return error


def failure(kind: Kind) -> type[TaskFailed]:
    """Return the class of the error of a task that ended like this."""
    return NotRun if kind == Kind.NOT_RUN else TaskFailed


def opened(request_id: int, outcome: Outcome, trusted: bool = True) -> tuple[Any, BaseException | None]:
    """Return a task's result; or None, and the exception to be raised in its place."""
    try:
        if outcome.kind == Kind.RESULT:
            value, problem = load(outcome.value, trusted)
            if problem is None:
                return value, None
            outcome = outcome._replace(value=problem.encode())
        return None, error_of(request_id, outcome, trusted)
    except UntrustedResult as error:
        return None, error


def harmless(error: BaseException) -> BaseException:
    """Return an exception of a task; but one that would end its user's loop or program as the TaskFailed that it is."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return error.__cause__ or error


def value_of(request_id: int, outcome: Outcome, trusted: bool = True) -> Any:
    """Return a task's result, or raise its error."""
    value, error = opened(request_id, outcome, trusted)
    if error is not None:
        raise harmless(error)
    return value


def results(request_id: int, dbfile: str, reraise: bool = True, deliver: bool = False) -> list[Any]:
    """Return the results of an ended request, in order. If reraise, raise the first error; else it is in the list.

    If deliver, the store lets go of what is returned, unless the request's options have it kept; errors stay. Raises
    JobError if the request has not ended, or has been delivered.
    """
    found: list[Any] = []
    given: list[int] = []
    with Storage(dbfile, make=False) as storage:
        request = storage.get_request(request_id)
        if not (progress := storage.progress(request_id)).finished:
            raise JobError(f"request {request_id} has not ended ({progress}): join it first")
        if storage.delivered(request_id):
            raise JobError(
                f"the results of request {request_id} have been given to who has joined its dispatcher, and are not "
                "stored any more. With the option keep, they stay"
            )
        config = Options.read(request.options).config
        for outcome in storage.outcomes(request_id, [(1, request.tasks)]):
            try:
                found.append(value_of(request_id, outcome, config.trusted))
                given.append(outcome.task)
            except Exception as error:
                if reraise:
                    error.add_note(
                        f"(it is the error of task {outcome.task} of request {request_id}; the results of the others "
                        f"are in sheepdog.get_results({request_id}, {dbfile!r}))"
                    )
                    raise
                found.append(error)
        if deliver and config.keep is None:
            storage.discard(request_id, runs_of(given))
    return found


def exit_code(outcome: Outcome, ended_by: int = 0) -> int:
    """Return the exit code of a process that ended like this; ended_by is the signal that its user sent it."""
    if outcome.kind == Kind.RESULT:
        return 0
    if outcome.kind == Kind.CANCELLED:
        return -(ended_by or signal.SIGTERM)
    if outcome.kind in ENDED_BY:
        return -ENDED_BY[outcome.kind]
    if outcome.signal:
        return -outcome.signal
    return exit_code_in_words(outcome) if outcome.status is None else outcome.status


def exit_code_in_words(outcome: Outcome) -> int:
    """Return the exit code that an error tells, where no number is stored: by versions before, or of an exception."""
    words = outcome.text.partition("\n")[0]
    if outcome.kind == Kind.RAISED:  # in the user's own words, but for this
        exited = re.fullmatch(r"SystemExit: (\d+)", words)
        return int(exited[1]) if exited else 1
    if killed := re.search(r"killed by signal (\d+)", words):
        return -int(killed[1])
    if exited := re.search(r"exited with status (\d+)", words):
        return int(exited[1])
    return -signal.SIGKILL if outcome.kind == Kind.MEMORY and "; " not in words else 1
