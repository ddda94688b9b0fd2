"""Grid Engine: qsub, qstat -xml, qdel and qacct, run on the head node; and the parsers of what they print."""

from __future__ import annotations

import collections
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from xml.etree import ElementTree

from ..deployment import Host
from ..errors import CommandFailed, SchedulerError
from ..job_file import Job, job_file, submit_script
from ..model import JobStatus
from ..upload import marks, upload_and_run

NOT_FOUND = 127
BUSY = 25  # qsub: too many jobs of this user, try again later


class GridEngineScheduler:
    """A job's id is Grid Engine's number; its elements are the tasks of the array, 1 to the number of workers."""

    name = "gridengine"

    def __init__(self, interval: float = 30.0) -> None:
        self.interval = interval

    def files(self, job: Job) -> dict[str, bytes]:
        """Return the job file and the script that submits it."""
        name = shlex.quote(job.name)
        # qstat -j takes a job's name too; a name of ours is unique.
        find = f"qstat -j {name} 2>/dev/null | sed -n 's/^job_number: *//p' | head -n 1"
        return {
            job.file: job_file(job, "#$", "SGE_TASK_ID").encode(),
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
            later = " (try again later)" if error.status == BUSY else ""
            raise SchedulerError(f"qsub on {host.name} refused the job{later}: {words}") from error
        return parse_qsub(answer.get("job", "")), answer["directory"]

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Ask once for all jobs; then, for those in error or gone, for the reason."""
        output = host.run(["sh", "-c", 'qstat -xml -u "$(id -un)"'])
        known = {job: status for job, status in parse_qstat(output).items() if job in set(jobs)}
        reasons = self._why_broken(host, [job for job, status in known.items() if status.broken])
        found = {}
        for job in jobs:
            status = known.get(job, JobStatus())
            if status.broken:
                why = "; ".join(reasons.get(job, ())) or "no reason given"
                status = replace(status, reason=f"the array job {job} is in error (Eqw): {why}")
            elif status.gone:
                status = JobStatus(reason=self._why_gone(host, job))
            found[job] = status
        return found

    def cancel(self, host: Host, job: str) -> None:
        """Delete the job; one that has ended already is no error."""
        host.run(["sh", "-c", f"qdel {shlex.quote(job)} || true"])

    def _why_broken(self, host: Host, jobs: list[str]) -> dict[str, list[str]]:
        try:
            return parse_reasons(host.run(["qstat", "-xml", "-j", ",".join(jobs)])) if jobs else {}
        except (CommandFailed, SchedulerError) as error:
            return {job: [str(error)] for job in jobs}

    def _why_gone(self, host: Host, job: str) -> str:
        """Accounting only improves the message: it comes late, and sites hide it."""
        try:
            ends = parse_qacct(host.run(["qacct", "-j", job]))
        except CommandFailed:
            ends = []
        if not ends:
            return "it was deleted, or its workers ended by themselves (Grid Engine's accounting does not know it yet)"
        counts = collections.Counter(ends)
        return "; ".join(f"{count} workers ended with {end}" for end, count in counts.most_common(3))


def parse_qsub(text: str) -> str:
    """Return the job's number from what qsub -terse printed: 12, or 12.1-100:1 for an array."""
    match = re.search(r"(?:^|\s)(\d+)(?:\.\S*)?\s*$", text)
    if match is None:
        raise SchedulerError(f"qsub printed {text!r}, not the number of a job")
    return match[1]


def parse_qstat(xml: bytes) -> dict[str, JobStatus]:
    """Return the jobs that `qstat -xml -u USER` lists: one entry a running element, one a range of waiting ones."""
    pending: set[str] = set()
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
            pending.add(job)
    return {
        job: JobStatus(job in pending, frozenset(running.get(job, ())), job in broken)
        for job in pending | broken | running.keys()
    }


def parse_reasons(xml: bytes) -> dict[str, list[str]]:
    """Return why jobs are in error, from `qstat -xml -j JOB,JOB`."""
    reasons = {}
    for element in _parse(xml).iterfind("djob_info/element"):
        texts = (message.text or "" for message in element.iter("QIM_message"))
        job = element.findtext("JB_job_number", "")
        reasons[job] = list(dict.fromkeys(" ".join(text.split()) for text in texts))
    return reasons


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
