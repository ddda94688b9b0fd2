"""DRMAA: a program on the head node that speaks to the library of the site's batch system; what it says, parsed.

The package drmaa and the program travel; of the head node it takes a Python and the batch system's libdrmaa.so.
"""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Iterator, Sequence

from ..config import Config, qsub
from ..deployment import Host
from ..errors import CommandFailed, SchedulerBusy, SchedulerError, SchedulerNotFound
from ..values.model import ArrayJob, End, JobStatus
from .archives import drmaa_archive
from .batch import NOT_FOUND, BatchSystem, typed
from .gridengine import GridEngineScheduler, parse_qacct, requests
from .job_file import Job
from .site import USUAL, Site

PROGRAM = "drmaa.pyz"
# Puts the program that comes as input into a directory of its own, runs it, and takes it away.
RUN = (
    f'there=$(mktemp -d) && cat >"$there/{PROGRAM}" && PYTHON -I "$there/{PROGRAM}" "$@"; '
    'status=$?; rm -rf "$there"; exit $status'
)
TIMEOUT = 120.0  # seconds: DRMAA is asked for each element by itself, at about a millisecond
PENDING = {"queued_active"}
HELD = {"system_on_hold", "user_on_hold", "user_system_on_hold"}
OVER = {"done", "failed", "gone"}
PORTABLE = ("queue", "cpus", "gpus", "memory", "time")


class DRMAAScheduler(BatchSystem):
    """A job's id is the ids of its elements in one word, such as 12.[1-4]."""

    name = "drmaa"
    title = "DRMAA"
    program = "DRMAA library"
    lister = "echo $DRMAA_LIBRARY_PATH"
    busy = (
        *("DrmCommunicationException", "TryLaterException", "jobs are allowed per user"),
        *GridEngineScheduler.busy,
    )
    prefix = "#DRMAA"
    # DRMAA has no name for this; in the order of Grid Engine, Slurm, PBS and LSF.
    element = "{SGE_TASK_ID:-${SLURM_ARRAY_TASK_ID:-${PBS_ARRAY_INDEX:-$LSB_JOBINDEX}}}"
    exact = "[^ ]+"
    notice = 10.0  # not known: batch systems differ

    def __init__(self, interval: float = 30.0, python: str = "python3") -> None:
        super().__init__(interval, python)
        self._system = ""

    def site(self, host: Host, config: Config) -> Site:
        """Ask the library of which batch system it is, and that for what it calls things."""
        system = self._ask(host, "about").decode(errors="replace").strip()
        named = GridEngineScheduler().site(host, config) if is_grid_engine(system) else USUAL
        return named._replace(system=system)

    def directives(self, job: Job, config: Config, site: Site | None) -> Iterator[str]:
        """Yield the attributes of DRMAA's job template, each with its value."""
        return attributes(job, config, site or USUAL)

    def files(self, job: Job, config: Config, site: Site | None = None) -> dict[str, bytes]:
        """Return the job file, the script that submits it, and the program that this takes."""
        return {**super().files(job, config, site), PROGRAM: program()}

    def commands(self, job: Job, options: Sequence[str]) -> tuple[str, str]:  # noqa: ARG002
        """Return the shell commands that submit and find the job: what was submitted is noted at once."""
        return f"{self.python} -I {PROGRAM} submit {job.file} {job.workers}", "cat submitted 2>/dev/null"

    def job_id(self, text: str) -> str:
        """Return the word that stands for the ids."""
        return text.strip()

    def refused(self, host: Host, job: Job, words: str, status: int) -> SchedulerError | None:
        """Tell limits of the site from faults of the job: the words are Grid Engine's, where it is that."""
        return GridEngineScheduler().refused(host, job, words, status)

    def missing(self, host: Host, words: str) -> SchedulerError:
        """Return what to do without the library."""
        return SchedulerNotFound(
            f"DRMAA cannot be used on {host.name}: {words}. It takes python3 there, and the libdrmaa.so of the batch "
            "system: ask its administrators where that is, and put `export DRMAA_LIBRARY_PATH=/where/libdrmaa.so` "
            f"into the shell's start-up file, so that `{typed(host, self.lister)}` shows it"
        )

    def jobs(self, host: Host, asked: Sequence[str]) -> dict[str, JobStatus]:
        """Ask for the state of every element."""
        self._system, found = parse_states(self._ask(host, "states", *asked))
        return found

    def gone(self, host: Host, job: str) -> bool:  # noqa: ARG002
        """Return that it has said all there is: each element was asked about by itself."""
        return False

    def named(self, host: Host, name: str) -> list[str]:  # noqa: ARG002
        """Return none: DRMAA finds no job by its name. Its ids are its own words, and nobody else's."""
        return []

    def ends(self, host: Host, job: str) -> list[End]:
        """Ask Grid Engine's accounting, if it is that: DRMAA knows how a job ended in the session of its submission."""
        number = re.match(r"(\d+)\.", job)
        if number is None or not is_grid_engine(self._system):
            return []
        return parse_qacct(host.run(["qacct", "-j", number[1]], timeout=20.0))

    def unlimited(self, host: Host, ends: Sequence[End]) -> bool:
        """Return what Grid Engine says, if it is that."""
        return is_grid_engine(self._system) and GridEngineScheduler().unlimited(host, ends)

    def delete(self, jobs: Sequence[str]) -> list[str]:
        """Return what the program is told."""
        return ["cancel", *jobs]

    def cancel(self, host: Host, jobs: Sequence[ArrayJob]) -> bool:
        """Take each element away; one that has ended already is no error."""
        if ids := [job.job for job in jobs if job.job]:
            self._ask(host, *self.delete(ids))
        return any(status.pending or status.running for status in self.jobs(host, ids).values()) if ids else False

    def _ask(self, host: Host, *words: str) -> bytes:
        """Run the program on the host."""
        try:
            return host.run(["sh", "-c", RUN.replace("PYTHON", self.python), "sh", *words], program(), TIMEOUT)
        except CommandFailed as error:
            text = error.errors.decode(errors="replace").strip()
            if error.status == NOT_FOUND:
                raise self.missing(host, text) from error
            if self.is_busy(text):
                raise SchedulerBusy(f"DRMAA's library on {host.name} does not reach its master: {text}") from error
            raise SchedulerError(
                f"DRMAA's library on {host.name} refused: {text}. What it needs in its environment, such as SGE_ROOT, "
                "belongs in the shell's start-up file there"
            ) from error


def program() -> bytes:
    """Return the program, with the package drmaa in it."""
    found = drmaa_archive()
    if found is None:
        raise SchedulerNotFound(
            'scheduler is "drmaa", and there is no package drmaa here: pip install drmaa. '
            "It is needed on this machine only"
        )
    return found


def attributes(job: Job, config: Config, site: Site) -> Iterator[str]:
    """Yield the attributes of the job template: the options as its native specification first, then ours."""
    for option in config.ge_opts:
        yield f"nativeSpecification {option}"
    if is_grid_engine(site.system):
        for option in requests(config, site):
            yield f"nativeSpecification {option}"
    elif given := [key for key in PORTABLE if getattr(config, key) is not None]:
        raise SchedulerError(
            f"DRMAA's library is that of {site.system}; only of Grid Engine Sheepdog knows how to ask for "
            f"{', '.join(given)} by DRMAA. Say it in ge_opts, in that batch system's own options: they are DRMAA's "
            "native specification"
        )
    home = "" if config.ssh_dir.startswith("/") else "$drmaa_hd_ph$/"
    if not qsub.gives(config.ge_opts, "-wd", "-cwd"):
        yield f"workingDirectory {home}{config.ssh_dir}"
    if not qsub.gives(config.ge_opts, "-o", "-e", "-j"):
        yield f"outputPath :{home}{job.directory}/{job.name}.o$drmaa_incr_ph$"
        yield "joinFiles y"
    yield "remoteCommand /bin/sh"
    path = ("" if job.directory.startswith("/") else '"$HOME"/') + f"{job.directory}/{job.file}"
    yield f"args -c {shlex.quote(f'exec /bin/sh {path}')}"
    yield f"jobName {job.name}"


def is_grid_engine(system: str) -> bool:
    """Tell whether this is a Grid Engine, in the words of its library; if it is not known, it counts as one."""
    return re.search(r"\b([SUO]?GE|OGS|Grid Engine)\b", system) is not None or not system


def parse_states(output: bytes) -> tuple[str, dict[str, JobStatus]]:
    """Return the batch system, and the jobs, also those that have ended, from what `states` printed."""
    system, *lines = output.decode(errors="replace").split("\n")
    states: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for line in lines:
        if len(words := line.split()) == 3:
            job, element, state = words
            states[job][element] = state
    found = {}
    for job, elements in states.items():
        waiting = [state for state in elements.values() if state in PENDING | HELD]
        # What is suspended, or cannot be determined, has been started and not ended.
        running = frozenset(name for name, state in elements.items() if state not in PENDING | HELD | OVER)
        held = bool(waiting) and not PENDING.issuperset(waiting)
        found[job] = JobStatus(len(waiting), running, held=held)
    return system, found
