"""What all batch systems have in common: one says its commands, and parses what they print; the rest is here.

A batch system is a class with these answers:

    program      the command that submits, and the one that lists: for the errors
    busy         its words when it is down, or has no room now
    prefix       what begins a line of options in the job file, and element: the variable that names an array element
    notice       the seconds between a signal that warns a worker and the one that ends it
    directives   the options of a job
    commands     the shell commands that submit a job, and that find it by its name
    exact        what submitting prints if it prints an id and nothing else, for `grep -E`
    job_id       the parser of that
    jobs         the jobs that are there, and how they are
    gone         whether it says of one job that there is no such job, or that it has ended
    named        the jobs of this name: names of ours are unique
    delete       the command that takes jobs away

and with these, if it has more to say:

    site         what the site calls things, where that differs
    avoid        the options that keep a job from some hosts
    directory    where the job file goes, if the batch system does not see to that
    refused      what a refusal means
    ends         how the elements of a job ended that is gone
    unlimited    whether workers that are warned can only have been deleted
    waits        why a job waits
    never        why a waiting job could not start if nothing else ran, if jobs do not tell that
    here         whether it is set up on this machine, and why, for those who do not say which one they want
    programs     those that tell whether a host has it
    there        what of these tells that it has
"""

from __future__ import annotations

import collections
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..config import Config
from ..deployment import Host, LocalHost
from ..deployment.upload import marks, upload_and_run
from ..errors import CommandFailed, HostError, SchedulerBusy, SchedulerError, SchedulerNotFound, UnknownResource
from ..values.model import ArrayJob, End, Fate, JobStatus
from .job_file import Job, job_file, submit_script
from .site import USUAL, Site

NOT_FOUND = 127
WORKER_MEMORY = 128 << 20  # bytes that a job needs beside its task: batch systems count the sum


class BatchSystem(ABC):
    """A scheduler with array jobs, run by commands on the head node. A job's id is its number there."""

    name: str
    title: str
    program: str
    lister: str
    busy: tuple[str, ...]
    prefix: str
    element: str
    exact: str
    notice: float
    programs: tuple[str, ...] = ()

    def __init__(self, interval: float = 30.0, python: str = "python3") -> None:
        self.interval = interval
        self.python = python  # a command there, quoted for a shell
        self._ended: dict[str, tuple[End, ...]] = {}  # jobs that are gone -> how, once the accounting knows

    # --- what a batch system answers

    @abstractmethod
    def directives(self, job: Job, config: Config, site: Site | None) -> Iterator[str]:
        """Yield the options of a job file: the user's first, then ours."""

    @abstractmethod
    def commands(self, job: Job, options: Sequence[str]) -> tuple[str, str]:
        """Return two shell commands: one submits the job file, one prints the id of a job of this name, if any.

        options are those that the job file says.
        """

    @abstractmethod
    def job_id(self, text: str) -> str:
        """Return the id in what submitting printed: that is one, and nothing else."""

    @abstractmethod
    def jobs(self, host: Host, asked: Sequence[str]) -> dict[str, JobStatus]:
        """Return the jobs that are there: those asked about, or all of the user's if that is as cheap.

        One of which it is said that it has ended may be among them.
        """

    @abstractmethod
    def gone(self, host: Host, job: str) -> bool:
        """Return whether it is said, in as many words, that there is no such job, or that it has ended.

        That a list does not have it is no word: under load, lists are empty.
        """

    @abstractmethod
    def named(self, host: Host, name: str) -> list[str]:
        """Return the ids of the user's jobs of this name that are there. Raises HostError if it is not said."""

    @abstractmethod
    def delete(self, jobs: Sequence[str]) -> list[str]:
        """Return the command that takes jobs away."""

    def site(self, host: Host, config: Config) -> Site:  # noqa: ARG002
        """Return what the site calls what the options ask for; the host is asked only if they do not say it."""
        return USUAL

    def avoid(self, config: Config, hosts: Sequence[str]) -> Config:  # noqa: ARG002
        """Return the options with which a job is on none of these hosts; unchanged if they cannot say so."""
        return config

    def directory(self, config: Config) -> str:  # noqa: ARG002
        """Return the directory to which the job file changes, quoted for the shell; empty: the batch system does it."""
        return ""

    def refused(self, host: Host, job: Job, words: str, status: int) -> SchedulerError | None:  # noqa: ARG002
        """Return what a refusal means; None if nothing is known but its words."""
        return None

    def ends(self, host: Host, job: str) -> list[End]:  # noqa: ARG002
        """Return how each element of a job ended; nothing if that is not known, or not yet."""
        return []

    def unlimited(self, host: Host, ends: Sequence[End]) -> bool:  # noqa: ARG002
        """Return whether elements that were warned had not come to a limit, but for those of which ends says so."""
        return False

    def waits(self, host: Host, job: str) -> str:  # noqa: ARG002
        """Return why a job waits, or an empty text."""
        return ""

    def never(self, host: Host, job: str) -> str:  # noqa: ARG002
        """Return why a waiting job could not start if nothing else ran, or an empty text."""
        return ""

    def here(self, which: Callable[[str], str | None], environ: Mapping[str, str]) -> tuple[bool, str]:  # noqa: ARG002
        """Return whether it is set up on this machine, and why so or why not; an empty text if it cannot be told."""
        return False, ""

    def there(self, programs: Container[str]) -> str:  # noqa: ARG002
        """Return what a host with these programs has of it, in words; an empty text if it has not."""
        return ""

    def missing(self, host: Host, words: str) -> SchedulerError:
        """Return the error of a host that lacks the program."""
        return SchedulerNotFound(
            f"there is no {self.program} on {host.name}: {words}. If there is after a login, put what sets its "
            f"PATH up into the shell's start-up file, so that `{typed(host, self.lister)}` works"
        )

    # --- the verbs

    def files(self, job: Job, config: Config, site: Site | None = None) -> dict[str, bytes]:
        """Return the job file and the script that submits it."""
        options = [*self.directives(job, config, site)]
        script = job_file(job, options, self.prefix, self.element, self.directory(config))
        return {job.file: script.encode(), "submit.sh": submit_script(*self.commands(job, options), self.exact)}

    def submit(self, host: Host, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        """Submit the job in one round trip."""
        try:
            answer = marks(upload_and_run(host, job.directory, files, "submit.sh"))
        except CommandFailed as error:
            words = error.errors.decode(errors="replace").strip()
            if error.status == NOT_FOUND:
                raise self.missing(host, words) from error
            if "refused" not in marks(error.output):
                raise SchedulerError(
                    f"the job's files cannot be put into {job.directory} on {host.name}: {words}"
                ) from error
            text = f"{self.program} on {host.name} refused the job: {words}"
            if self.is_busy(words):
                raise SchedulerBusy(f"{text} (it may be taken later)") from error
            raise self.refused(host, job, text, error.status) or SchedulerError(text) from error
        return self.job_id(answer.get("job", "")), answer["directory"]

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Ask once for all jobs; then for each that is not listed, whether it is gone, and how it ended.

        One that is neither listed nor said to be gone is left out.
        """
        listed = self.jobs(host, jobs)
        known = {job: listed.get(job, JobStatus()) for job in jobs if job in listed or self._is_gone(host, job)}
        self._ended = {job: why for job, why in self._ended.items() if job in known and known[job].gone}
        for job, status in known.items():
            if status.gone:
                ends = self._how_gone(host, job)
                # Slurm's accounting has also what was cancelled before it started.
                started = any(end.fate != Fate.DELETED for end in ends)
                unlimited = self.unlimited(host, ends)
                known[job] = replace(status, reason=self._why(ends), started=started, ends=ends, unlimited=unlimited)
        return known

    def hopeless(self, host: Host, job: str) -> str:
        """Return why a waiting job could not start if nothing else ran, or an empty text."""
        return _said(self.never, host, job)

    def explain(self, host: Host, job: str) -> str:
        """Return what the batch system says of a waiting job."""
        return _said(self.waits, host, job)

    def cancel(self, host: Host, jobs: Sequence[ArrayJob]) -> bool:
        """Delete the jobs that have these names: an id alone may be another job's. One that is gone is no error."""
        found = [there for job in jobs for there in self._there(host, job)]
        if not found:
            return False
        command = self.delete(found)
        try:
            host.run(command)
        except CommandFailed as error:
            words = (error.output + error.errors).decode(errors="replace").strip()
            if error.status == NOT_FOUND or self.is_busy(words):
                text = f"{command[0]} on {host.name} did not delete {', '.join(found)}: {words}"
                raise SchedulerBusy(text) from error
        return True

    def is_busy(self, words: str) -> bool:
        """Tell whether it says that it is down, or that it has no room now."""
        return any(sign in words for sign in self.busy)

    def _there(self, host: Host, job: ArrayJob) -> list[str]:
        """Return the ids of the jobs that have a job's name. Raises SchedulerBusy if it is not clear."""
        try:
            found = self.named(host, job.name)
        except (CommandFailed, SchedulerError) as error:
            raise SchedulerBusy(
                f"{host.name} does not say whether the array job {job.name} is there: {error}"
            ) from error
        if not found and job.job and not self._is_gone(host, job.job):
            raise SchedulerBusy(f"{host.name} lists no array job {job.name}, and does not say that {job.job} is gone")
        return found

    def _is_gone(self, host: Host, job: str) -> bool:
        """Return whether it is said that a job is gone; what cannot be asked is not said."""
        try:
            return self.gone(host, job)
        except (CommandFailed, SchedulerError):
            return False

    def _how_gone(self, host: Host, job: str) -> tuple[End, ...]:
        """Return how the elements of a job ended. Accounting is but a help: it comes late, and sites hide it."""
        if job not in self._ended:
            try:
                ends = self.ends(host, job)
            except HostError:  # also if it takes too long: on an old cluster the accounting is large
                ends = []
            if not ends:
                return ()
            self._ended[job] = tuple(ends)
        return self._ended[job]

    def _why(self, ends: Iterable[End]) -> str:
        """Return how a job ended, in a sentence."""
        counts = collections.Counter(end.text for end in ends)
        if not counts:
            text = "it was deleted, or its workers ended by themselves"
            return f"{text} ({self.title}'s accounting does not know it yet)"
        return "; ".join(f"{count} workers ended with {end}" for end, count in counts.most_common(3))


def _said(ask: Callable[[Host, str], str], host: Host, job: str) -> str:
    """Return what is said of a job; what only improves a message may fail."""
    try:
        return ask(host, job)
    except (HostError, SchedulerError):
        return ""


def typed(host: Host, command: str) -> str:
    """Return what a person types here to run a command there."""
    return command if host.name == LocalHost.name else f"ssh {host.name} {shlex.quote(command)}"


def unknown_resource(words: str, wrong: str, names: Iterable[str]) -> UnknownResource:
    """Return the error for a resource that the batch system does not know: with those that it knows."""
    import difflib

    known = sorted({*names})
    near = difflib.get_close_matches(wrong, known, n=1)
    return UnknownResource(f"{words}\n({f'did you mean {near[0]}? ' if near else ''}There are {', '.join(known)})")


def expand(tasks: str) -> Iterator[str]:
    """Yield the elements of an array in the notation that batch systems share, such as 1-3:1 or 7,8."""
    for part in tasks.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*", part)
        if match:
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            yield from (str(number) for number in range(first, last + 1, max(1, step)))
