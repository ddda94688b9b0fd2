"""Grid Engine: qsub, qstat -xml, qdel and qacct, run on the head node; and the parsers of what they print."""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from ..config import Config, qsub
from ..deployment import Host
from ..errors import CommandFailed, HostError, SchedulerBusy, SchedulerError, TooManyWorkers, UnknownResource
from ..values.model import End, Fate, JobStatus
from .batch import WORKER_MEMORY, BatchSystem, expand, unknown_resource
from .job_file import Job
from .site import LOOK, Site, is_known, named, parse_complexes, parse_site

if TYPE_CHECKING:
    from xml.etree import ElementTree

BUSY = 25  # qsub: too many jobs of this user, try again later
# What qsub says of a name that the site does not have, which flag of qconf lists those that it has, and their parser.
NAMES: tuple[tuple[str, str, Callable[[str], Iterable[str]]], ...] = (
    (r'unknown resource "([^"]+)"', "-sc", parse_complexes),
    (r'unknown queue "([^"]+)"', "-sql", str.split),
    (r'parallel environment "([^"]+)" does not exist', "-spl", str.split),
)
# The limits of time of all queues, and those that every job is given: by the site and by the user.
LIMITS = """qconf -sq '*' && echo looked
grep -hsE '[hs]_rt=' "$SGE_ROOT/${SGE_CELL:-default}/common/sge_request" "$HOME/.sge_request"; true"""
NOTHING_SAID = "There are no messages available"  # qstat -j: the scheduler has not said why a job waits


class GridEngineScheduler(BatchSystem):
    """A job's elements are the tasks of the array, 1 to the number of workers."""

    name = "gridengine"
    title = "Grid Engine"
    program = "qsub"
    lister = "qstat"
    busy = ("unable to send message to qmaster", "got select error", "commlib error", "cannot connect")
    prefix = "#$"
    element = "SGE_TASK_ID"
    exact = r"[0-9]+(\.[0-9]+-[0-9]+:[0-9]+)?"
    notice = 50.0  # a queue's `notify` is 60 s unless its administrators say otherwise
    programs = ("qsub", "qconf", "sbatch")

    def __init__(self, interval: float = 30.0, python: str = "python3") -> None:
        super().__init__(interval, python)
        self._broken: dict[str, str] = {}  # jobs in error -> why

    def directives(self, job: Job, config: Config, site: Site | None) -> Iterator[str]:
        """Yield the options of a job file: the user's first, then ours."""
        return directives(job, config, site)

    def site(self, host: Host, config: Config) -> Site:
        """Ask qconf, if the options do not say all."""
        if is_known(config):
            return named(config)
        try:
            return parse_site(host.run(["sh", "-c", LOOK]), config)
        except CommandFailed as error:
            words = (error.output + error.errors).decode(errors="replace").strip()
            if self.is_busy(words):
                raise SchedulerBusy(f"qconf on {host.name} does not say what resources there are: {words}") from error
            return named(config)

    def avoid(self, config: Config, hosts: Sequence[str]) -> Config:
        """Ask for another host, and to be told at once if there is none."""
        return replace(config, ge_opts=qsub.avoiding(config.ge_opts, hosts))

    def commands(self, job: Job, options: Sequence[str]) -> tuple[str, str]:  # noqa: ARG002
        """Return the shell commands that submit and find the job."""
        name = shlex.quote(job.name)
        # qstat -j takes a job's name too. A name of ours is unique, but anybody can see it and use it.
        own = 'grep -q "^owner: *$(id -un)\\$"'
        find = (
            f"{{ qstat -j {name} >found 2>/dev/null && {own} found && "
            "sed -n 's/^job_number: *//p' found | head -n 1; rm -f found; }"
        )
        # An sge_request, of the site or the user, may say -b y, and the job file would be no script; or -now y, and it
        # would not wait; or -sync y, and qsub would end with the job: 8.1.9 does so whatever the command line says.
        return f"qsub -terse -b n -sync n -now n {job.file}", find

    def job_id(self, text: str) -> str:
        """Return the job's number."""
        return parse_qsub(text)

    def here(self, which: Callable[[str], str | None], environ: Mapping[str, str]) -> tuple[bool, str]:
        """Look for qsub and SGE_ROOT."""
        if not which("qsub"):
            return False, "qsub is not on PATH"
        if not environ.get("SGE_ROOT"):
            return False, "SGE_ROOT is not set"
        return True, "qsub is on PATH and SGE_ROOT is set"

    def there(self, programs: Container[str]) -> str:
        """Look for qsub. Slurm comes with one of its own for those who are used to it; only Grid Engine has qconf."""
        return "qsub" if "qsub" in programs and ("qconf" in programs or "sbatch" not in programs) else ""

    def refused(self, host: Host, job: Job, words: str, status: int) -> SchedulerError | None:  # noqa: ARG002
        """Tell limits of the site from faults of the job."""
        if status == BUSY:
            return SchedulerBusy(f"{words} (it may be taken later)")
        if most := re.search(r"more than (\d+) tasks", words):
            return TooManyWorkers(words, int(most[1]))
        for sentence, flag, parse in NAMES:
            if unknown := re.search(sentence, words):
                try:
                    names = parse(host.run(["qconf", flag]).decode(errors="replace"))
                except HostError:
                    return UnknownResource(words)
                return unknown_resource(words, unknown[1], names)
        return None

    def jobs(self, host: Host, asked: Sequence[str]) -> dict[str, JobStatus]:  # noqa: ARG002
        """Return the user's jobs."""
        return parse_qstat(host.run(["sh", "-c", 'qstat -xml -u "$(id -un)"']))

    def gone(self, host: Host, job: str) -> bool:
        """Ask about the one job."""
        return not parse_known(host.run(["qstat", "-xml", "-j", job]))

    def named(self, host: Host, name: str) -> list[str]:
        """Ask for the name: anybody's job may have it, but it cannot be a number."""
        me, _, xml = host.run(["sh", "-c", 'id -un && qstat -xml -j "$1"', "sh", name]).partition(b"\n")
        owner = me.decode().strip()
        return [job for job, theirs in parse_known(xml).items() if theirs == owner]

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Ask for the reason, too, once for each job that is in error."""
        found = super().status(host, jobs)
        self._broken = {job: why for job, why in self._broken.items() if job in found and found[job].broken}
        reasons = self._why_broken(host, [job for job in found if found[job].broken and job not in self._broken])
        for job, status in found.items():
            if status.broken:
                text = f"the array job {job} is in error (Eqw): {reasons[job]}"
                found[job] = replace(status, reason=text)
        return found

    def waits(self, host: Host, job: str) -> str:
        """Return the last of the scheduler's messages."""
        said = parse_waiting(host.run(["qstat", "-xml", "-j", job]))
        return said[-1] if said else ""

    def never(self, host: Host, job: str) -> str:
        """Ask whether it would fit into an empty cluster: qstat says of a full one that it is full, whatever fits."""
        return parse_verification(host.run(["sh", "-c", 'LC_ALL=C qalter -w v "$1" 2>&1; true', "sh", job]))

    def ends(self, host: Host, job: str) -> list[End]:
        """Ask the accounting."""
        return parse_qacct(host.run(["qacct", "-j", job], timeout=20.0))

    def unlimited(self, host: Host, ends: Sequence[End]) -> bool:
        """Return whether the accounting tells limits apart; without it, whether there are none of time."""
        if ends:
            return True
        try:
            return parse_limits(host.run(["sh", "-s"], LIMITS.encode()))
        except (HostError, SchedulerError):
            return False

    def delete(self, jobs: Sequence[str]) -> list[str]:
        """Return qdel."""
        return ["qdel", ",".join(jobs)]

    def _why_broken(self, host: Host, jobs: list[str]) -> dict[str, str]:
        """Return why jobs are in error, these and those that were asked about before."""
        if not jobs:
            return self._broken
        try:
            said = parse_reasons(host.run(["qstat", "-xml", "-j", ",".join(jobs)]))
        except (CommandFailed, SchedulerError) as error:
            return {**self._broken, **dict.fromkeys(jobs, str(error))}
        self._broken.update((job, "; ".join(said.get(job, ())) or "no reason given") for job in jobs)
        return self._broken


def directives(job: Job, config: Config, site: Site | None = None) -> Iterator[str]:
    """Yield the options of a job file: the user's first, then ours."""
    yield from config.ge_opts
    home = "" if config.ssh_dir.startswith("/") else "$HOME/"
    if not qsub.gives(config.ge_opts, "-wd", "-cwd"):
        yield f"-wd {home}{config.ssh_dir}"
    theirs = qsub.gives(config.ge_opts, "-o")
    if not theirs:
        yield f"-o {home}{job.directory}/"
    if not qsub.gives(config.ge_opts, "-e", "-j"):
        yield f"-e {home}{job.directory}/" if theirs else "-j y"
    yield from requests(config, site or named(config))
    yield "-S /bin/sh"
    yield f"-N {job.name}"
    yield f"-t 1-{job.workers}"


def requests(config: Config, site: Site) -> Iterator[str]:
    """Yield the options that ask for the resources of a worker, and for how it is ended."""
    slots = config.cpus or 1
    if config.queue is not None:
        yield f"-q {config.queue}"
    if config.cpus is not None:
        yield f"-pe {site.environment} {slots}"
    if config.memory_bytes is not None:
        yield f"-l {site.memory}={site.share(site.memory, config.memory_bytes + WORKER_MEMORY, slots)}"
    if config.gpus is not None:
        yield f"-l {site.gpu}={site.share(site.gpu, config.gpus, slots)}"
    if config.time_seconds is not None:
        yield f"-l h_rt={config.time_seconds}"
    if not qsub.gives(config.ge_opts, "-notify"):
        yield "-notify"  # signals before the end: the worker hands back what it has not begun
    if not qsub.gives(config.ge_opts, "-r"):
        yield "-r y"  # a node that is given up gives its workers up, too


def parse_qsub(text: str) -> str:
    """Return the job's number from what qsub -terse printed: 12, or 12.1-100:1 for an array."""
    match = re.fullmatch(r"(\d+)(?:\.\d+-\d+:\d+)?", text.strip())
    if match is None:
        raise SchedulerError(f"qsub printed {text!r}, not the number of a job")
    return match[1]


def parse_qstat(xml: bytes) -> dict[str, JobStatus]:
    """Return the jobs that `qstat -xml -u USER` lists: one entry a running element, one a range of waiting ones."""
    pending: collections.Counter[str] = collections.Counter()
    held: set[str] = set()
    broken: set[str] = set()
    running: dict[str, set[str]] = collections.defaultdict(set)
    deleting: dict[str, set[str]] = collections.defaultdict(set)
    for entry in _parse(xml).iter("job_list"):
        job = entry.findtext("JB_job_number", "")
        state = entry.findtext("state", "")
        if "E" in state:
            broken.add(job)
        elif entry.get("state") == "running":
            running[job].update(expand(entry.findtext("tasks", "1")))
            if "d" in state:
                deleting[job].update(expand(entry.findtext("tasks", "1")))
        else:
            pending[job] += sum(1 for _ in expand(entry.findtext("tasks", "1")))
            if "h" in state:
                held.add(job)
    return {
        job: JobStatus(
            *(pending[job], frozenset(running.get(job, ())), job in broken, job in held),
            deleting=frozenset(deleting.get(job, ())),
        )
        for job in pending.keys() | broken | running.keys()
    }


def parse_known(xml: bytes) -> dict[str, str]:
    """Return the jobs, each with its owner, that `qstat -xml -j JOB` tells of; none if it says that it knows none.

    Raises SchedulerError if it says neither.
    """
    # Not as XML: the job's environment is in it, with any characters.
    text = xml.decode(errors="replace")
    jobs = re.findall(r"<JB_job_number>(\d+)</JB_job_number>.*?<JB_owner>([^<]*)</JB_owner>", text, re.DOTALL)
    if not jobs and not re.search(r"<unknown_jobs\b.*</unknown_jobs>", text, re.DOTALL):
        raise SchedulerError(f"qstat -j tells neither of a job nor that there is none: {text[:200]!r}")
    return dict(jobs)


def parse_reasons(xml: bytes) -> dict[str, list[str]]:
    """Return why jobs are in error, from `qstat -xml -j JOB,JOB`."""
    reasons = {}
    for element in _parse(xml).iterfind("djob_info/element"):
        texts = (message.text or "" for message in element.iter("QIM_message"))
        job = element.findtext("JB_job_number", "")
        reasons[job] = list(dict.fromkeys(" ".join(text.split()) for text in texts))
    return reasons


def parse_waiting(xml: bytes) -> list[str]:
    """Return what the scheduler says of a waiting job, or else of the queues, from `qstat -xml -j JOB`."""
    root = _parse(xml)
    for said in ("SME_message_list", "SME_global_message_list"):
        messages = root.iterfind(f"messages/element/{said}/element/MES_message")
        texts = (" ".join((message.text or "").split()) for message in messages)
        if found := list(dict.fromkeys(text for text in texts if text not in ("", NOTHING_SAID))):
            return found
    return []


def parse_verification(output: bytes) -> str:
    """Return why no host fits a job, from `qalter -w v JOB`; an empty text if one does, or if that is not said."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    if not any("no suitable queues" in line for line in lines):
        return ""
    reasons = [re.sub(r"^Job \d+ ", "", line) for line in lines if re.match(r"Job \d+ .*", line)]
    return f"no host fits: {'; '.join(list(dict.fromkeys(reasons))[:3]) or 'no suitable queues'}"


def parse_limits(output: bytes) -> bool:
    """Tell whether there is no limit of time, by what LIMITS prints."""
    text = output.decode(errors="replace")
    queues, looked, requests = text.partition("looked\n")
    return bool(looked) and not requests.strip() and not re.search(r"^[hs]_rt +(?! |INFINITY *$)", queues, re.MULTILINE)


def parse_qacct(text: bytes) -> list[End]:
    """Return how each element of a job ended, from `qacct -j JOB`."""
    ends = []
    for record in re.split(r"^=+\s*$", text.decode(errors="replace"), flags=re.MULTILINE):
        fields = dict(line.split(None, 1) for line in record.splitlines() if len(line.split(None, 1)) == 2)
        if "exit_status" in fields:
            failed = " ".join(fields.get("failed", "0").split())
            status = f"exit status {fields['exit_status'].split()[0]}"
            fate = Fate.ITSELF if (status, failed) == ("exit status 0", "0") else Fate.OTHER
            said = status if failed == "0" else f"{status}, failed {failed}"
            ends.append(End(said, fate, fields.get("taskid", "").strip(), fields.get("hostname", "").strip()))
    return ends


def _parse(xml: bytes) -> ElementTree.Element:
    """Return the root of the document in what was printed: a site's wrapper may print before it, and behind it."""
    from xml.etree import ElementTree

    parser: Any = ElementTree.XMLPullParser(["start", "end"])
    parser.feed(xml[max(0, xml.find(b"<?xml")) :])
    wrong = None
    try:
        parser.close()
    except ElementTree.ParseError as error:
        wrong = error
    depth = 0
    with suppress(ElementTree.ParseError):  # which comes behind the elements before it
        for event, element in parser.read_events():
            depth += 1 if event == "start" else -1
            if depth == 0:
                return cast("ElementTree.Element", element)
    raise SchedulerError(f"qstat did not print XML ({wrong}): {xml[:200]!r}") from wrong
