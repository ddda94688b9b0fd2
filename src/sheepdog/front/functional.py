"""The first front door: map a function over argument tuples, and fetch what came of it."""

from __future__ import annotations

import functools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, overload

from ..config import Config, make_config
from ..config.options import Options
from ..errors import ConfigError, StorageError, UntrustedResult
from ..server.life import Server
from ..storage import Storage
from ..values.facts import What
from ..values.model import Cause, Kind, Outcome, Report
from ..values.ranges import total
from . import dispatch as road
from . import requests, waiting
from .dispatch import dispatch, share_imports
from .imap import Results
from .results import ErrorText, conclude, describe, load, load_arguments, summary, unreadable
from .stream import Stream
from .terminal import notes, say_aloud, say_once, ticker, wait_aloud
from .waiting import wait


def map(
    f: Callable[..., Any],
    args: Iterable[Any],
    config: Mapping[str, Any] | str | Config | None = None,
    ns: Mapping[str, Any] | None = None,
    verbose: bool = True,
) -> list[Any]:
    """Run f with each of args on the cluster, wait, and return the results in the order of args.

    Each item of args is a tuple or a list of positional arguments, or a dict of keyword arguments. config is a dict
    of options, the name of a profile, or None for the defaults: without a host, the Grid Engine or Slurm of this
    machine if it has one, else its own processes. ns holds names that f needs beside its own globals; they win over
    those. Where a task failed its result is None, and if verbose a line on standard error says what most of them say.
    If verbose, the number of the request is said, too. Interrupted, the request goes on.

    Raises TypeError for what cannot be serialised, ValueError for a wrong configuration, and other SheepdogErrors
    for a host, a scheduler or a database file that cannot be used; then nothing is left behind. Raises NotRun, with the
    reason, if no task could be run.
    """
    settings = make_config(config)
    request_id = dispatch(f, args, settings, ns, say=say_once(verbose))
    dbfile = os.path.abspath(os.path.expanduser(settings.dbfile))
    if verbose:
        say_aloud(f"request {request_id}, in {dbfile}")
    say = say_once(verbose)
    progress = wait_aloud(request_id, dbfile, verbose, say=say)
    results: list[Any] = [None] * progress.tasks
    with Storage(dbfile, make=False) as storage:
        for text in storage.said(request_id, What.STOOD_IN):
            say(text)
        causes = conclude(request_id, storage)
        for index, data in storage.results(request_id):
            try:
                results[index - 1], problem = load(data, settings.trusted)
            except UntrustedResult as error:
                error.add_note(
                    f"(it is the result of task {index} of request {request_id}; the others can be fetched: see "
                    f"sheepdog.get_errors({request_id}, {dbfile!r}))"
                )
                raise
            if problem is not None:
                causes.append(Cause(Kind.RESULT, problem.partition("\n")[0], 1))
    if verbose and causes:
        say_aloud(summary(progress.tasks, causes, f"sheepdog.get_errors({request_id}, {dbfile!r})"))
    return results


def map_async(
    f: Callable[..., Any],
    args: Iterable[Any],
    config: Mapping[str, Any] | str | Config | None = None,
    ns: Mapping[str, Any] | None = None,
) -> int:
    """Submit f with each of args, as map does, and return the request's id as soon as the array job is submitted."""
    return dispatch(f, args, config, ns)


def imap(
    f: Callable[..., Any],
    args: Iterable[Any],
    config: Mapping[str, Any] | str | Config | None = None,
    ns: Mapping[str, Any] | None = None,
    ordered: bool = True,
    return_exceptions: bool = False,
    verbose: bool = True,
) -> Results:
    """Run f with each of args, as map does, and return an iterator over the results, which come while others run.

    args may be endless: items are drawn by a thread, a limited number ahead of the results that have been taken. The
    results are in the order of args; if not ordered, they come as they end. Where a task failed, next raises what f
    raised or else a TaskFailed; the result after it can be had by another next. If return_exceptions, the exception
    takes the place of the result instead. What concerns all tasks is raised and ends the iteration: when there are no
    workers, or when args raises. To close the iterator, or to drop it, cancels the tasks that have not ended.
    Results that were there stay in the database.

    Raises at once what map raises.
    """
    items = iter(args)
    share_imports()
    say = say_once(verbose)
    stream = Stream(f, make_config(config), ns, say, again=math.inf)
    stream.__enter__()  # the thread that the results come from leaves it
    return Results(stream, items, ordered, return_exceptions, say)


def job_script(config: Mapping[str, Any] | str | Config | None = None, tasks: int = 1000) -> str:
    """Return the text of the job file that map would submit for so many tasks; nothing is submitted, or stored.

    Only the request's number in it, and the end of its name, differ. Without a cluster it is the script that starts the
    processes. The host is asked only for what the options do not say: which scheduler it has, if a host is given and
    scheduler is not; and what a Grid Engine site calls memory, cpus or gpus. Pythons are looked for when a request is
    submitted: unless shell says it, /usr/bin/python3 stands for what will be found or brought. Raises as map does.
    """
    if type(tasks) is not int or tasks < 1:
        raise ConfigError(f"tasks is {tasks!r}; it must be a whole number, at least 1")
    return road.job_script(config, tasks)


def get_results(
    request_id: int,
    dbfile: str | os.PathLike[str],
    block: bool = True,
    verbose: bool = False,
    trusted: bool | None = None,
) -> list[tuple[Any, Any]]:
    """Return [(args, result)] of a request, in order; result is None where a task failed or has not ended.

    If block, wait until every task has ended, and raise NotRun, with the reason, if none of them could be run; if
    verbose too, say each second on standard error how many have. Otherwise return what is there. To load a result is
    to run what it says: unless trusted, one that is not plain data (numbers, texts, bytes, and lists, tuples, dicts and
    sets of these) raises UntrustedResult; None is as the request's option says. Of an executor's calls those are left
    out, with a warning, whose futures have their results. Raises ValueError if there is no such request.
    """
    _require(dbfile)
    if block:
        say = say_once(verbose)
        wait(request_id, dbfile, ticker(1.0, say) if verbose else notes(say), start=trusted is not False)
    with Storage(dbfile, make=False) as storage:
        if block:
            conclude(request_id, storage)
        trusted = _trusts(storage, request_id, trusted)
        _tell_delivered(storage, request_id)
        return [
            (load_arguments(args, storage, trusted), load(value, trusted)[0] if kind == Kind.RESULT else None)
            for _, args, kind, value in storage.tasks(request_id)
        ]


def get_errors(
    request_id: int, dbfile: str | os.PathLike[str], trusted: bool | None = None
) -> list[tuple[Any, ErrorText]]:
    """Return [(args, error)] of the tasks that failed or were cancelled so far, in order.

    An error is text. Its first line says what happened; then come the task, the attempt, the host, the remote
    traceback, the end of the task's own output, and what earlier attempts ended with. It has the attributes request,
    task, kind, signal, status and peak of a TaskFailed. A result that cannot be loaded
    here counts as an error, too; unless trusted, so does one that is not plain data, and it is not loaded; None is as
    the request's option says. Raises ValueError if there is no such request.
    """
    _require(dbfile)
    with Storage(dbfile, make=False) as storage:
        trusted = _trusts(storage, request_id, trusted)
        before: dict[int, list[Outcome]] = {}
        for attempt, _ in storage.attempts(request_id):
            before.setdefault(attempt.task, []).append(attempt)
        failed = {
            outcome.task: ErrorText.of(request_id, outcome, describe(request_id, outcome, before.get(outcome.task, [])))
            for _, outcome in storage.errors(request_id)
        }
        errors = []
        for index, args, kind, value in storage.tasks(request_id):
            error = failed.get(index)
            if kind == Kind.RESULT and b"\x93" in value:  # it names a class or a function
                problem = unreadable(value, trusted)
                if problem is not None:
                    error = ErrorText.of(request_id, Outcome(index, kind=kind), problem)
            if error is not None:
                errors.append((load_arguments(args, storage, trusted), error))
        return errors


@overload
def get_output(
    request_id: int, dbfile: str | os.PathLike[str], index: None = None, trusted: bool | None = None
) -> list[tuple[Any, str]]: ...


@overload
def get_output(request_id: int, dbfile: str | os.PathLike[str], index: int, trusted: bool | None = None) -> str: ...


def get_output(
    request_id: int, dbfile: str | os.PathLike[str], index: int | None = None, trusted: bool | None = None
) -> list[tuple[Any, str]] | str:
    """Return [(args, output)] of a request, in order: the end of what each task printed, on both of its streams.

    index is the number of a task, from 1, as its errors and SHEEPDOG_TASK_INDEX tell it: then return the output of that
    task alone. The output is text, as the task wrote it; so many bytes of it are kept as the option max_output says. It
    is empty for a task that has not ended, or printed nothing. Of a task that was cancelled or lost while it ran, it is
    what its worker could still tell, or an attempt before: nothing if the worker was lost, or ended with the request.
    trusted is as for get_results. Raises ValueError if there is no such request or no such task.
    """
    _require(dbfile)
    with Storage(dbfile, make=False) as storage:
        if index is not None:
            return storage.output(request_id, index).decode("utf-8", "replace")
        trusted = _trusts(storage, request_id, trusted)
        _tell_delivered(storage, request_id)
        return [
            (load_arguments(args, storage, trusted), output.decode("utf-8", "replace"))
            for args, output in storage.outputs(request_id)
        ]


def _tell_delivered(storage: Storage, request_id: int) -> None:
    """Warn that tasks are left out: an executor's whose futures have their results."""
    if gone := total(storage.delivered(request_id)):
        warnings.warn(
            f"{gone} of {storage.count_tasks(request_id)} tasks of request {request_id} are left out: their futures "
            "have been given the results, and nothing of them is stored any more. With the option keep, they stay",
            stacklevel=3,
        )


def get_reports(request_id: int, dbfile: str | os.PathLike[str], trusted: bool | None = None) -> list[tuple[Any, Any]]:
    """Return [(args, value)] of what the tasks of a request have reported so far, in the order in which it came.

    A task reports with `controller.report`. To load a value is to run what it says: trusted is as for get_results.
    Where it cannot be loaded here, a text in its place says why. Raises ValueError if there is no such request.
    """
    _require(dbfile)
    with Storage(dbfile, make=False) as storage:
        return list(_loaded(request_id, storage, storage.reports(request_id), trusted))


def follow_reports(
    request_id: int, dbfile: str | os.PathLike[str], trusted: bool | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yield (args, value) of what the tasks of a request report, as it comes, until every task has ended.

    It begins with what has been reported so far. Values and errors are those of get_reports; and NotRun, with the
    reason, if no task could be run.
    """
    _require(dbfile)
    with Storage(dbfile, make=False) as storage:
        reports = waiting.follow_reports(request_id, storage, start=trusted is not False)
        yield from _loaded(request_id, storage, reports, trusted)
        if storage.progress(request_id).finished:
            conclude(request_id, storage)


def _loaded(
    request_id: int, storage: Storage, reports: Iterable[Report], trusted: bool | None
) -> Iterator[tuple[Any, Any]]:
    trusted = _trusts(storage, request_id, trusted)

    @functools.lru_cache(maxsize=100)
    def args_of(task: int) -> Any:
        return load_arguments(storage.arguments(request_id, task), storage, trusted)

    for report in reports:
        value, problem = load(report.value, trusted, "report")
        yield args_of(report.task), value if problem is None else f"<{problem}>"


def cancel(request_id: int, dbfile: str | os.PathLike[str]) -> int:
    """End the tasks of a request that have not ended, and its workers. Return how many tasks there were.

    Results that are there stay. Raises ValueError if there is no such request.
    """
    _require(dbfile)
    return requests.cancel(request_id, dbfile)


def remove(request_id: int, dbfile: str | os.PathLike[str]) -> None:
    """Remove a request from the database, with its arguments, results and errors. What has not ended is cancelled.

    Its directories go from its host. If that does not answer within half a minute, the log says so, and a later server
    sees to it. Later requests use the room in the file; if half of it is free, 64 MB at least, and nothing runs, the
    file shrinks. Raises ValueError if there is no such request.
    """
    _require(dbfile)
    requests.remove(request_id, dbfile)


def retry(
    request_id: int,
    dbfile: str | os.PathLike[str],
    failed: bool = True,
    config: Mapping[str, Any] | None = None,
    f: Callable[..., Any] | None = None,
    ns: Mapping[str, Any] | None = None,
) -> int:
    """Run tasks of an ended request again; return how many. Then get_results waits for them as ever.

    Those are the tasks that were cancelled or never run and, if failed, those that failed. config holds options in
    which this time differs from the last. What runs is the function as it was when the request was made. After a
    change, give f, the function as it is now, and ns as for map; results that are there stay. What the tasks ended with
    stays in their history, see get_errors. Raises ValueError if there is no such request or if it has not ended, and
    what map raises.
    """
    _require(dbfile)
    return requests.retry(request_id, dbfile, failed, config or {}, f, ns)


def take_over(dbfile: str | os.PathLike[str]) -> int:
    """Make a database file this account's own on this machine; return how many of its requests have not ended.

    That is for a copy that takes the place of the original: a backup that was restored, or a file that came to another
    disk or machine. What has not ended goes on when somebody waits for it, and has its workers. If the original is in
    use still, tasks run twice. If somebody else made it, this runs what they stored: take over only whom you trust.
    """
    _require(dbfile)
    return requests.take_over(dbfile)


def _trusts(storage: Storage, request_id: int, trusted: bool | None) -> bool:
    """Return whether to load more than plain data: as asked, or as the request says."""
    if trusted is None:
        trusted = Options.read(storage.get_request(request_id).options).config.trusted
    if trusted and storage.bundles_of(request_id):
        from . import elsewhere  # seldom needed

        elsewhere.look_in(storage, request_id)
    return trusted


def _require(dbfile: str | os.PathLike[str]) -> None:
    if not os.path.exists(os.path.expanduser(dbfile)):
        raise StorageError(
            f"there is no database {os.fspath(dbfile)!r}: give the dbfile that the request was made with"
        )
    if os.path.isfile(os.path.expanduser(dbfile)) and not os.path.getsize(os.path.expanduser(dbfile)):
        raise StorageError(f"{os.fspath(dbfile)!r} is empty: give the dbfile that the request was made with")
    with suppress(StorageError):  # of a database that is not one's own nothing is started
        server = Server(dbfile=dbfile)
        if server.outdated:  # to look into the database brings it up to date, and that server cannot go on
            server.start(make=False)
