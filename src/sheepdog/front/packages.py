"""Packages that a request brings along: what is to come, for which Python, and that it is there before its workers."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config.options import Options
from ..deployment import Host, folders, kept, wheels
from ..deployment.requirements import in_file, unmet
from ..deployment.upload import marks
from ..errors import CommandFailed, ConfigError, HostError, SchedulerError
from ..schedulers import job_file
from ..storage import Storage
from ..values.files import BROUGHT
from ..values.packages import Wanted, read

log = logging.getLogger("sheepdog")

# What the worker's Python says of itself, which may be one of any age.
ASK = """import json, os, sys
try: libc = os.confstr("CS_GNU_LIBC_VERSION")
except (ValueError, OSError): libc = "musl"
name = getattr(getattr(sys, "implementation", None), "name", "python")
facts = [name, "%d.%d" % sys.version_info[:2], os.uname().machine, libc]
print("sheepdog:facts " + json.dumps(facts))
"""


def put(storage: Storage, request_id: int, options: Options, host: Host, say: Callable[[str], object] = bool) -> None:
    """Put the packages that a request brings along where its workers look for them, if it brings any; say so.

    Raises ConfigError if they cannot be had; for the Python that runs here, if they are not installed.
    """
    given = options.config.packages
    if not options.can_bring:
        require_here(given)
        return
    wanted = read(storage.wanted(request_id))
    request = asked_for(given, wanted)
    if not any((request.requirements, request.files, request.perhaps)):
        return
    python = facts(options, host)
    archive = wheels.resolve(request, python, lambda: say(f"packages are resolved, for {python}"))
    for text in left_out(wanted, archive.left) if given is True else ():
        log.info("request %d: %s", request_id, text)
        say(text)
    place = options.config.ssh_dir
    where = f"{place}/{folders.PACKAGES}/{archive.name[:12]}... on {host.name}"

    def said() -> None:
        size = f"{archive.path.stat().st_size / 1e6:,.1f} MB, {archive.size / 1e6:,.1f} MB unpacked"
        log.info("request %d: packages (%s) go to %s", request_id, size, where)
        say(f"packages ({size}) go to {where}")

    try:
        sent = folders.put(host, place, folders.PACKAGES, archive.name, archive.path.read_bytes, said)
    except CommandFailed as error:
        raise SchedulerError(f"the packages cannot be put into {where}: {folders.why_not(error)}") from error
    if sent:
        make_room(host, place)
    else:
        log.info("request %d: its packages are in %s", request_id, where)
    storage.name_brought(request_id, [f"{BROUGHT}{archive.name}"])


def make_room(host: Host, place: str) -> None:
    """Keep what stays on a host below its bound; if that cannot be seen to now, it is the next time."""
    with suppress(HostError):
        for each in kept.bound(host, place):
            log.info("%s is removed from %s: it was used longest ago", each.path, host.name)


def asked_for(given: Any, wanted: Sequence[Wanted]) -> wheels.Request:
    """Return what is to be brought along, of what the option packages says and what the code imports."""
    if given is True:
        alone = [each for each in wanted if not each.distribution and each.certain]
        if alone:
            raise ConfigError(
                f"packages: {', '.join(each.name for each in alone)} is here and of no known distribution, so it "
                "cannot be brought along: install it, or name what is to come in packages=[...]"
            )
        known = {each.requirement for each in wanted if each.distribution}
        certain = {each.requirement for each in wanted if each.distribution and each.certain}
        constraints = wheels.installed_here() if known else ()
        return wheels.Request(tuple(sorted(certain)), (), constraints, tuple(sorted(known - certain)))
    if isinstance(given, str):
        path = os.path.abspath(os.path.expanduser(given))
        if not os.path.isfile(path):
            raise ConfigError(f"packages: there is no file {path}; requirements are given as a list: [{given!r}]")
        return wheels.Request(files=(path,))
    return wheels.Request(tuple(given or ()))


def left_out(wanted: Iterable[Wanted], left: Mapping[str, str]) -> list[str]:
    """Return what a user should hear of packages that do not come, as it is not certain that they are needed."""
    words = []
    for each in wanted:
        by = f", which {each.by} imports," if each.by else ""
        if each.distribution and each.requirement in left:
            words.append(f"{each.requirement}{by} is left out, and perhaps not needed: {left[each.requirement]}")
        elif not each.distribution and not each.certain:
            words.append(f"{each.name}{by} is left out, and perhaps not needed: it is of no known distribution")
    return words


def facts(options: Options, host: Host) -> wheels.Target:
    """Return for which Python packages must be: the one that the workers will have, asked on the host."""
    python = options.command
    what = f"packages are brought along for the workers' Python, {python} on {host.name}"
    remedy = "Is the option shell right?" if options.config.shell else "Name another Python with the option shell"
    try:
        said = _ask(host, python, options.setup)
    except CommandFailed as error:
        all_words = " ".join(error.errors.decode(errors="replace").split())
        words = all_words[-300:]
        if "line of setup" not in all_words:
            raise ConfigError(f"{what}, which does not say what it is: {words or error}. {remedy}") from error
        try:  # lines of setup may do on the nodes what they cannot do there
            said = _ask(host, python, options.interpreter.loads) if "/" in python else {}
        except CommandFailed:
            said = {}
        if not said:
            version = ".".join(map(str, sys.version_info[:2]))
            raise ConfigError(
                f"{what}, and the lines of setup, which lead to it, fail there: {words or error}. Say which Python it "
                f"is: name its path with the option shell, or bring one along with python='{version}'"
            ) from error
    if "facts" not in said:
        raise HostError(f"{what}, which does not say what it is. {remedy}")
    implementation, version, *rest = json.loads(said["facts"])
    if [int(part) for part in version.split(".")] < [3, 6]:
        raise ConfigError(f"{what}, which is Python {version}; workers need 3.6 or newer. {remedy}")
    return wheels.target(implementation, version, *rest)


def _ask(host: Host, python: str, setup: Sequence[str]) -> dict[str, str]:
    """Return what a Python says of itself, after lines of setup. CommandFailed if one of these fails, or the Python."""
    script = f"{job_file.setup(setup) if setup else ''}exec {python} - <<'END'\n{ASK}END\n"
    shell = 'exec "$(command -v bash || command -v sh)" -s' if setup else "exec sh -s"
    return marks(host.run(["sh", "-c", shell], script.encode()))


def require_here(given: Any) -> None:
    """Raise ConfigError for requirements that are not met here: local processes use what is installed."""
    if given is None or given is True:
        return
    request = asked_for(given, ())
    listed = [*request.requirements, *(one for path in request.files for one in in_file(Path(path)).requirements)]
    missing = unmet(listed)
    if missing:
        line = f"{shlex.quote(sys.executable)} -m pip install {' '.join(map(shlex.quote, missing))}"
        raise ConfigError(
            f"packages: {', '.join(missing)} is not installed here, and local processes use what is: {line}"
        )
