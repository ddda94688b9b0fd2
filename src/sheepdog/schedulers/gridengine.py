"""Grid Engine: qsub, qstat -xml, qdel and qacct, run on the head node; and the parsers of what they print."""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from xml.etree import ElementTree

from ..config import Config
from ..deployment import Host
from ..errors import CommandFailed, HostError, SchedulerBusy, SchedulerError, TooManyWorkers
from ..job_file import Job, job_file, submit_script
from ..model import JobStatus
from ..upload import marks, upload_and_run

NOT_FOUND = 127
BUSY = 25  # qsub: too many jobs of this user, try again later
DOWN = ("unable to send message to qmaster", "got select error", "commlib error", "cannot connect")  # in its words
NOTHING_SAID = "There are no messages available"  # qstat -j: the scheduler has not said why a job waits
WORKER_MEMORY = 128 << 20  # bytes that a job needs beside its task: Grid Engine counts the sum


class GridEngineScheduler:
    """A job's id is Grid Engine's number; its elements are the tasks of the array, 1 to the number of workers."""

    name = "gridengine"
    notice = 50.0  # a queue's `notify` is 60 s unless its administrators say otherwise

    def __init__(self, interval: float = 30.0) -> None:
        self.interval = interval
        self._broken: dict[str, str] = {}  # jobs in error -> why
        self._ended: dict[str, str] = {}  # jobs that are gone -> how, once the accounting knows

    def files(self, job: Job, config: Config) -> dict[str, bytes]:
        """Return the job file and the script that submits it."""
        name = shlex.quote(job.name)
        # qstat -j takes a job's name too. A name of ours is unique, but anybody can see it and use it.
        own = 'grep -q "^owner: *$(id -un)\\$"'
        find = (
            f"{{ qstat -j {name} >found 2>/dev/null && {own} found && "
            "sed -n 's/^job_number: *//p' found | head -n 1; rm -f found; }"
        )
        return {
            job.file: job_file(job, directives(job, config), "#$", "SGE_TASK_ID").encode(),
            "submit.sh": submit_script(f"qsub -terse {job.file}", find),
        }

    def submit(self, host: Host, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        """Submit the job in one round trip."""
        try:
            answer = marks(upload_and_run(host, job.directory, files, "submit.sh"))
        except CommandFailed as error:
            words = error.errors.decode(errors="replace").strip()
            if error.status == NOT_FOUND:
                raise SchedulerError(
                    f"there is no qsub on {host.name}: {words}. If there is after a login, put what sets its PATH up "
                    f"into the shell's start-up file, so that `ssh {host.name} qstat` works"
                ) from error
            if "refused" not in marks(error.output):
                raise SchedulerError(
                    f"the job's files cannot be put into {job.directory} on {host.name}: {words}"
                ) from error
            text = f"qsub on {host.name} refused the job: {words}"
            if error.status == BUSY or any(sign in words for sign in DOWN):
                raise SchedulerBusy(f"{text} (it may be taken later)") from error
            if most := re.search(r"more than (\d+) tasks", words):
                raise TooManyWorkers(text, int(most[1])) from error
            raise SchedulerError(text) from error
        return parse_qsub(answer.get("job", "")), answer["directory"]

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Ask once for all jobs; then, once for each that is in error or gone, for the reason."""
        output = host.run(["sh", "-c", 'qstat -xml -u "$(id -un)"'])
        listed = parse_qstat(output)
        known = {job: listed.get(job, JobStatus()) for job in jobs}
        self._broken = {job: why for job, why in self._broken.items() if job in known and known[job].broken}
        self._ended = {job: why for job, why in self._ended.items() if job in known and known[job].gone}
        reasons = self._why_broken(host, [job for job in known if known[job].broken and job not in self._broken])
        found = {}
        for job, status in known.items():
            if status.broken:
                status = replace(status, reason=f"the array job {job} is in error (Eqw): {reasons[job]}")
            elif status.gone:
                status = replace(status, reason=self._why_gone(host, job))
            found[job] = status
        return found

    def explain(self, host: Host, job: str) -> str:
        """Return what the scheduler says of a waiting job: the last of its messages."""
        try:
            said = parse_waiting(host.run(["qstat", "-xml", "-j", job]))
        except (CommandFailed, SchedulerError):
            return ""
        return said[-1] if said else ""

    def cancel(self, host: Host, jobs: Sequence[str]) -> None:
        """Delete the jobs; one that has ended already is no error."""
        try:
            host.run(["qdel", ",".join(jobs)])
        except CommandFailed as error:
            words = (error.output + error.errors).decode(errors="replace").strip()
            if error.status == NOT_FOUND or any(sign in words for sign in DOWN):
                raise SchedulerBusy(f"qdel on {host.name} did not delete {', '.join(jobs)}: {words}") from error

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

    def _why_gone(self, host: Host, job: str) -> str:
        """Return how a job ended. Accounting only improves the message: it comes late, and sites hide it."""
        if job in self._ended:
            return self._ended[job]
        try:
            ends = parse_qacct(host.run(["qacct", "-j", job], timeout=20.0))
        except HostError:  # also if it takes too long: on an old cluster the file is large
            ends = []
        if not ends:
            return "it was deleted, or its workers ended by themselves (Grid Engine's accounting does not know it yet)"
        counts = collections.Counter(ends)
        self._ended[job] = "; ".join(f"{count} workers ended with {end}" for end, count in counts.most_common(3))
        return self._ended[job]


def directives(job: Job, config: Config) -> Iterator[str]:
    """Yield the options of a job file: the user's first, then ours."""
    yield from config.ge_opts
    home = "" if config.ssh_dir.startswith("/") else "$HOME/"
    if not config.gives("-wd", "-cwd"):
        yield f"-wd {home}{config.ssh_dir}"
    if not config.gives("-o"):
        yield f"-o {home}{job.directory}/"
    if not config.gives("-e", "-j"):
        yield f"-e {home}{job.directory}/"
    if config.memory_bytes is not None:
        yield f"-l {config.memory_resource}={config.memory_bytes + WORKER_MEMORY}"
    if config.time_seconds is not None:
        yield f"-l h_rt={config.time_seconds}"
    if not config.gives("-notify"):
        yield "-notify"  # signals before the end: the worker hands back what it has not begun
    if not config.gives("-r"):
        yield "-r y"  # a node that is given up gives its workers up, too
    yield "-S /bin/sh"
    yield f"-N {job.name}"
    yield f"-t 1-{job.workers}"


def parse_qsub(text: str) -> str:
    """Return the job's number from what qsub -terse printed: 12, or 12.1-100:1 for an array."""
    match = re.search(r"(?:^|\s)(\d+)(?:\.\S*)?\s*$", text)
    if match is None:
        raise SchedulerError(f"qsub printed {text!r}, not the number of a job")
    return match[1]


def parse_qstat(xml: bytes) -> dict[str, JobStatus]:
    """Return the jobs that `qstat -xml -u USER` lists: one entry a running element, one a range of waiting ones."""
    pending: collections.Counter[str] = collections.Counter()
    held: set[str] = set()
    broken: set[str] = set()
    running: dict[str, set[str]] = collections.defaultdict(set)
    for entry in _parse(xml).iter("job_list"):
        job = entry.findtext("JB_job_number", "")
        state = entry.findtext("state", "")
        if "E" in state:
            broken.add(job)
        elif entry.get("state") == "running":
            running[job].update(expand(entry.findtext("tasks", "1")))
        else:
            pending[job] += sum(1 for _ in expand(entry.findtext("tasks", "1")))
            if "h" in state:
                held.add(job)
    return {
        job: JobStatus(pending[job], frozenset(running.get(job, ())), job in broken, job in held)
        for job in pending.keys() | broken | running.keys()
    }


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


def parse_qacct(text: bytes) -> list[str]:
    """Return how each element of a job ended, from `qacct -j JOB`."""
    ends = []
    for record in re.split(r"^=+\s*$", text.decode(errors="replace"), flags=re.MULTILINE):
        fields = dict(line.split(None, 1) for line in record.splitlines() if len(line.split(None, 1)) == 2)
        if "exit_status" in fields:
            failed = " ".join(fields.get("failed", "0").split())
            end = f"exit status {fields['exit_status'].split()[0]}"
            ends.append(end if failed == "0" else f"{end}, failed {failed}")
    return ends


def expand(tasks: str) -> Iterator[str]:
    """Yield the elements of Grid Engine's notation, such as 1-3:1 or 7,8."""
    for part in tasks.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*", part)
        if match:
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            yield from (str(number) for number in range(first, last + 1, max(1, step)))


def _parse(xml: bytes) -> ElementTree.Element:
    start = xml.find(b"<?xml")  # a login shell may have printed something first
    try:
        return ElementTree.fromstring(xml[max(0, start) :])  # noqa: S314 (from the user's own head node)
    except ElementTree.ParseError as error:
        raise SchedulerError(f"qstat did not print XML ({error}): {xml[:200]!r}") from error
