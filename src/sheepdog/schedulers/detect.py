"""The choice of the scheduler, for those who do not say it: each is asked whether it is there, in their order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Container, Mapping

from ..config import Config
from ..config.registry import BATCH_SYSTEMS
from ..deployment import Host
from ..errors import SchedulerNotFound
from . import make_batch_system


def choose_scheduler(
    config: Config,
    on_host: Callable[[Collection[str]], Container[str]],
    environ: Mapping[str, str] | None = None,
    which: Callable[[str], str | None] = shutil.which,
) -> tuple[str, str]:
    """Return the name of the scheduler to use, and the reason in words.

    on_host tells which of some programs the host has; it is called only if that decides. Raises SchedulerNotFound if
    the host has none of the schedulers that can be told by their programs.
    """
    if config.scheduler is not None:
        return config.scheduler, "the configuration says so"
    if config.host is not None:
        return on_that_host(config.host, on_host)
    environ = os.environ if environ is None else environ
    absent: list[str] = []
    for name in BATCH_SYSTEMS:
        there, why = make_batch_system(name).here(which, environ)
        if there:
            return name, _listed(why, *absent)
        absent += [why] if why else []
    return "local", _listed("no host is given", *absent)


def on_that_host(host: str, on_host: Callable[[Collection[str]], Container[str]]) -> tuple[str, str]:
    """Return the name of the scheduler that a host has, and the reason in words."""
    systems = [system for system in map(make_batch_system, BATCH_SYSTEMS) if system.programs]
    programs = on_host(list(dict.fromkeys(program for system in systems for program in system.programs)))
    for system in systems:
        if why := system.there(programs):
            return system.name, f"{host} has {why}"
    first, *others = dict.fromkeys(system.program for system in systems)
    listers = " or ".join(dict.fromkeys(f"`ssh {host} {system.lister}`" for system in systems))
    raise SchedulerNotFound(
        f"there is no {first} on {host}{''.join(f', and no {other}' for other in others)}. "
        "If there is after a login, put what sets its PATH up "
        f"into the shell's start-up file, so that {listers} works. "
        'For processes on that machine itself, say {"scheduler": "local"}'
    )


def programs_on(host: Host, programs: Collection[str]) -> set[str]:
    """Return which of some programs a host has."""
    script = 'for program; do command -v "$program" >/dev/null && echo "$program"; done; true'
    return {*host.run(["sh", "-c", script, "sh", *programs]).decode(errors="replace").split()}


def _listed(first: str, *others: str) -> str:
    """Return reasons as one."""
    return ", and ".join(filter(None, (", ".join([first, *others[:-1]]), *others[-1:])))
