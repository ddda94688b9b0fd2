"""Which Python the workers of a request have: the user says it, or it is found on the host, or it is brought along.

    shell                the user names one of the host: nothing is looked for
    python="auto"        one that can load the function, of those there; else one of the version here is brought
    python="3.13"        one of this version, found or brought
    python="a folder"    the one that is in a folder or an archive here is brought

What is brought is fetched by uv, where it is not given. Local processes have the Python that runs here.
"""

from __future__ import annotations

import functools
import logging
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..client import describe_python
from ..config import Config, make_config
from ..config.options import Interpreter, Options
from ..deployment import Host, folders
from ..deployment import pythons as there
from ..deployment.pythons import SETUP, Found, Pythons
from ..errors import CommandFailed, ConfigError, SchedulerError
from ..schedulers import submit
from ..values import account

log = logging.getLogger("sheepdog")

Fits = Callable[[Mapping[str, Any]], bool]

_seen: dict[tuple[object, ...], Pythons] = {}
"""The Pythons of hosts, by what they were asked: each is asked once for all requests of this process."""


def pythons(config: Mapping[str, Any] | str | Config | None = None) -> Pythons:
    """Return the Pythons of the host, as `python="auto"` would find them; to print it shows them as a table.

    In its attribute found are where each was found, its path, implementation and version. Raises HostError if the host
    cannot be asked, ConfigError for a wrong configuration.
    """
    settings = make_config(config)
    return there.look(submit.host_of(settings, interactive=True), settings.setup, _own(settings))


def equip(options: Options, fits: Fits) -> Options:
    """Return the options of a request with the Python of its workers. fits tells which can load its function.

    The host is asked unless the options say it. Nothing is sent yet. Raises ConfigError if there is none, with what
    there is and what to do; HostError if the host cannot be asked.
    """
    config = options.config
    if config.shell is not None or (options.here and config.python == "auto"):
        return options
    host = submit.host_of(config, interactive=True)
    if config.brings:
        return _bring(options, there.platform(host), config.brings, fits)
    version, own = config.version, describe_python()
    if version and not fits(_facts(version, f"CPython {version}")):
        raise ConfigError(f"python is {config.python!r}: {_cannot(version)}")
    wanted = _of_version(version, fits) if version else fits
    place = (config.host, config.ssh_port, config.ssh_user, config.ssh_keyfile, config.setup)
    key = (*place, wanted(own), os.environ.get("PATH"))
    seen = _seen.get(key) or there.look(host, config.setup, _own(config), own if wanted(own) else None)
    found = there.choose(seen.found, wanted, own)
    if found is None:  # somebody may have installed one meanwhile
        seen = there.look(host, config.setup, _own(config))
        found = there.choose(seen.found, wanted, own)
    _seen[key] = seen
    if config.setup and seen.setup is None and not version:
        log.info("the lines of setup fail on %s: the workers run on what python3 is after them", host.name)
        return replace(options, interpreter=Interpreter("python3", title="what `python3` is after the lines of setup"))
    if found is not None:
        python = _of(found, host)
        title = python.title + _passed_over(seen, found, version)
        return replace(options, interpreter=python._replace(title=title))
    minor = version or ".".join(describe_python()["version"].split(".")[:2])
    try:
        return _bring(options, seen, _fetch(seen, minor), fits)
    except ConfigError as error:
        what = f"CPython {version}" if version else "Python that can load the function"
        raise ConfigError(f"there is no {what} on {host.name}, but {seen.named()}. {error}") from error


def put(options: Options, host: Host, say: Callable[[str], object]) -> None:
    """Put the Python of a request where its workers look for it, if it is brought along; say which they have.

    Raises SchedulerError if there is no room for it, HostError if it does not run there; then nothing of it is left.
    """
    python = options.interpreter
    if not python.brought:
        text = f"workers run on {python.title}" if python.title else ""
        log.info("%s", text or f"workers run on {options.command}")
        say(text)
        return
    from ..deployment import brought  # slow to import, and only some need it

    place = options.config.ssh_dir
    where = f"{folders.folder_of(place, folders.PYTHONS)}/{python.brought}"
    begun = time.monotonic()
    sending = functools.partial(say, f"{python.title} is brought along to {host.name}")
    try:
        sent = brought.put(host, place, python.brought, sending)
    except CommandFailed as error:
        why = folders.why_not(error)
        raise SchedulerError(f"the Python cannot be put into {place}/pythons on {host.name}: {why}") from error
    how = f"{sent / 1e6:.1f} MB sent in {time.monotonic() - begun:.1f} s{'' if sent else ', as it is there already'}"
    away = f"rm -rf {shlex.quote(where)}"
    here = f"rm -rf {shlex.quote(str(account.home() / where))}"
    remove = here if options.config.host is None else f"ssh {options.config.host} {shlex.quote(away)}"
    text = f"workers run on {python.title}, brought along to {host.name}:{where} ({how}; to remove it: {remove})"
    log.info("%s", text)
    say(text)


def _passed_over(seen: Pythons, found: Found, version: str) -> str:
    """Return why a Python is not the one that the lines of setup lead to; empty if it is, or if they lead to none."""
    chosen = seen.found[0]
    if chosen is found or chosen.where != SETUP:
        return ""
    other = version and not _of_version(version, bool)(chosen.facts)
    why = there.note(chosen) or (f"it is no CPython {version}" if other else "it cannot load the function")
    return f", not on {chosen}, to which the lines of setup lead: {why}"


def _of(found: Found, host: Host) -> Interpreter:
    """Return a Python of the host as that of the workers."""
    command = "python3" if found.where == SETUP else shlex.quote(found.path)
    loads = (f"module load {shlex.quote(found.module)}",) if found.module else ()
    how = f", by module load {found.module}" if found.module else ""
    name = there.title(found.implementation, found.version)
    return Interpreter(command, loads, title=f"{host.name}:{found.path} ({name}{how})")


def _bring(options: Options, seen: Pythons, source: str, fits: Fits) -> Options:
    """Return options with a Python that is brought along."""
    from ..deployment import brought

    made = brought.make(source)
    if refusal := made.refusal(seen):
        raise ConfigError(f"python cannot be brought along: {refusal}. Give one that is for it, or another host")
    if not fits(_facts(made.version, source)):
        raise ConfigError(f"python is {source!r}: {_cannot(made.version)}")
    command = brought.command(options.config.ssh_dir, made.name)
    return replace(
        options, interpreter=Interpreter(command, brought=made.name, title=there.title("cpython", made.version))
    )


def _facts(version: str, executable: str) -> dict[str, str]:
    """Return what a CPython of this version would say of itself."""
    own = describe_python()
    alike = own["implementation"] == "cpython" and version.split(".")[:2] == own["version"].split(".")[:2]
    magic = own["magic"] if alike else ""
    return {"implementation": "cpython", "version": version, "magic": magic, "executable": executable}


def _cannot(version: str) -> str:
    """Return that the function cannot be loaded by a CPython of this version, and what to do."""
    own = describe_python()
    return (
        f"CPython {version} cannot load the function, which goes by value, as code that "
        f"{there.title(own['implementation'], own['version'])} has made: leave `python` out, or put what goes by value "
        "(a lambda, what a script or a notebook defines) into a module of your own"
    )


def _fetch(seen: Pythons, minor: str) -> str:
    """Return the folder of a CPython of this version for a host's platform."""
    from ..deployment import uv

    if seen.system != "Linux":
        raise ConfigError(f"None can be brought along to {seen.system or 'an unknown system'}: {uv.REMEDY}")
    return str(uv.install(minor, seen.machine, "musl" if seen.libc.startswith("musl") else "gnu"))


def _of_version(version: str, fits: Fits) -> Fits:
    """Return what tells whether a Python can load the function, and is a CPython of this version."""
    parts = version.split(".")

    def wanted(python: Mapping[str, Any]) -> bool:
        same = str(python.get("version")).split(".")[: len(parts)] == parts
        return same and python.get("implementation") == "cpython" and fits(python)

    return wanted


def _own(config: Config) -> str:
    """Return the Python that runs here, if the host is this machine."""
    return describe_python()["executable"] if config.host is None else ""
