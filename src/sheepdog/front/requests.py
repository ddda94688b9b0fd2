"""What a user does with a request that is there: end it, remove it, run its tasks again."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from ..bundle.before import Before, read
from ..bundle.outgoing import FIRST, Outgoing
from ..client import BY_NAME, Run, run_any
from ..client.wire.calls import for_all, manifest_in, without_manifest
from ..config import make_config
from ..config.options import Options
from ..errors import ConfigError, NotOwnRequest
from ..server.life import log_file
from ..storage import Storage
from ..values import packages
from ..values.files import Function
from ..values.model import Kind, Request, RequestState
from ..values.serialisation import form, name_of, serialise_function
from .dispatch import equipped, launch, options_of, require_main_guard
from .waiting import wait_for_clearing, wait_for_directories

log = logging.getLogger("sheepdog")

SOON = 1.0  # seconds in which a server that is there begins to clear up: one that is just dying holds its lock so long


def cancel(request_id: int, dbfile: str | os.PathLike[str], task: int | None = None) -> int:
    """End the tasks of a request that have not ended, or this one; return how many there were.

    The server ends the workers that have nothing else to do.
    """
    with Storage(dbfile, make=False) as storage:
        storage.require_own(request_id)
        if task is None:
            storage.close_request(request_id)
        count = storage.end_pending(
            request_id, Kind.CANCELLED, "cancelled by its user", None if task is None else [task]
        )
        wait_for_clearing(storage, request_id, SOON)
        return count


def remove(request_id: int, dbfile: str | os.PathLike[str]) -> None:
    """Remove a request and what is stored of it, when nothing of it is left elsewhere.

    Of one that is not this account's own, what is stored here is all that is touched.
    """
    with Storage(dbfile, make=False) as storage:
        try:
            storage.require_own(request_id)
        except NotOwnRequest:
            storage.remove_request(request_id)
            return
    cancel(request_id, dbfile)
    with Storage(dbfile, make=False) as storage:
        wait_for_clearing(storage, request_id)
        storage.remove_request(request_id, cleared=False)
        if not wait_for_directories(storage, request_id):
            log.warning(
                "request %d is removed, but not what it has left on its host: a server of %s will do that when it can, "
                "see %s",
                *(request_id, storage.dbfile, log_file(storage.dbfile)),
            )
        storage.give_back()


def retry(
    request_id: int,
    dbfile: str | os.PathLike[str],
    failed: bool,
    config: Mapping[str, Any],
    f: Callable[..., Any] | None = None,
    ns: Mapping[str, Any] | None = None,
) -> int:
    """Run tasks of an ended request again; return how many. If they cannot be submitted, all is as it was."""
    require_main_guard()
    with Storage(dbfile, make=False) as storage:
        storage.require_own(request_id)
        request = storage.get_request(request_id)
        if request.state in (RequestState.NEW, RequestState.SUBMITTED):
            raise ConfigError(
                f"request {request_id} has not ended ({storage.progress(request_id)}): wait for it with "
                "sheepdog.get_results, or stop it with sheepdog.cancel"
            )
        options = options_again(request, config)
        before = storage.function(request_id) if f is not None else None
        ship = options.config.ship
        sent = sent_with(storage, request_id, before) if before is not None and ship is not False else FIRST
        now = function_again(request_id, before, f, ns, ship, sent)
        options = equipped(options, now.form if now else request.form)
        if not storage.count_retried(request_id, failed):
            return 0
        wait_for_clearing(storage, request_id)
        count = storage.retry(request_id, options.stored(), failed, now)
        if count:
            try:
                launch(storage, request_id)
            except BaseException:
                storage.undo_retry(request_id, request.options, before)
                raise
        return count


def take_over(dbfile: str | os.PathLike[str]) -> int:
    """Make a database this account's own on this machine; return how many requests have not ended."""
    with Storage(dbfile, make=False) as storage:
        return storage.take_over()


def function_again(
    request_id: int,
    before: Function | None,
    f: Callable[..., Any] | None,
    ns: Mapping[str, Any] | None,
    ship: Any = (),
    sent: Before = FIRST,
) -> Function | None:
    """Return what a request calls from now on; None if that stays as it was. sent: what its arguments may need."""
    if f is None or before is None:
        if ns is not None:
            raise ConfigError("ns comes with f: give the function, too")
        return None
    if before.namespace and ns is None:
        raise ConfigError(
            f"request {request_id} was made with ns, and f is to be given one, too: the old names are those of the old "
            "function. Give ns={} if f needs none"
        )
    name = name_of(f)
    function = without_manifest(before.function)
    if function == serialise_function(operator.call)[0] or (is_run(function) and RUN_ANY in function):
        raise ConfigError(
            f"each task of request {request_id} brings what it calls along, as the calls of an executor do, and jobs: "
            "leave f out, or make the calls anew"
        )
    outgoing = Outgoing(ship, sent)
    again, namespace = serialise_function(Run(f, name) if is_run(function) else f, ns, outgoing.pickler)
    outgoing.freeze()
    needed = outgoing.look_first(f)
    by_value = outgoing.needs.by_value or before.form.get("form") != BY_NAME  # of the arguments nothing else is known
    made = form(by_value, outgoing.needs.looked_up())
    return Function(for_all(needed.before) + again, namespace, made, needed.files)


def sent_with(storage: Storage, request_id: int, before: Function) -> Before:
    """Return what was sent of the user's own files with a request: with its function, and with its calls."""
    named = filter(None, (manifest_in(before.function), *storage.manifests_of(request_id)))
    manifests = (storage.file(name.hex()) for name in named)
    return read(manifests, lambda bundle: storage.file(bundle.hex()), packages.read(storage.wanted(request_id)))


RUN_ANY = run_any.__name__.encode()


def is_run(function: bytes) -> bool:
    """Tell whether a serialised function is that of a job, without loading it: a Run of the job's target."""
    sample = serialise_function(Run(abs, ""))[0]
    start = sample[HEAD : sample.index(b"__wrapped__")]
    return function[HEAD:].startswith(start)


HEAD = 11  # bytes of a pickle before its first instruction: the protocol, and the length


def options_again(request: Request, config: Mapping[str, Any]) -> Options:
    """Return the options of a request that is run again: the old ones, but for those given."""
    if not isinstance(config, Mapping):
        raise ConfigError(f"config is {config!r}; for retry it must be a dict of options, or left out")
    if "dbfile" in config:
        raise ConfigError("retry takes no option dbfile: a request stays in the database that it was made in")
    if "profile" in config:
        raise ConfigError("retry takes no profile: give the options in which this time differs from the last")
    before = Options.read(request.options)
    anew: dict[str, Any] = {"scheduler": None} if "host" in config else {}
    if config.get("scheduler") == "local":
        anew = {"host": None}
    options = options_of(make_config({**asdict(before.config), **anew, **config}, environ={}))
    if options.directory and before.directory:
        return replace(options, directory=before.directory)  # where it ran before
    return options
