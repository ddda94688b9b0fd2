"""PBS: qsub, qstat, qselect and qdel of OpenPBS and PBS Professional, and the parsers of what they print.

The example of docs/schedulers.rst. It is tested on text of the form that PBS prints, and never ran on a PBS.
"""

import collections
import os
import re
import shlex
from collections.abc import Callable, Container, Iterator, Mapping, Sequence

from sheepdog.config import Config
from sheepdog.deployment import Host
from sheepdog.errors import SchedulerError, TooManyWorkers
from sheepdog.schedulers.batch import WORKER_MEMORY, BatchSystem
from sheepdog.schedulers.job_file import Job
from sheepdog.schedulers.site import Site
from sheepdog.values.model import End, JobStatus

PENDING, HELD, RUNNING = {"Q", "T", "W"}, {"H"}, {"E", "R", "S", "U"}  # X and F have ended; B is the array itself
# qstat ends with 153 if it does not know a job, and with 35 if a job has ended; it lists the others all the same.
LIST = 'qstat -t -f "$@"; status=$?; case $status in 35|153) ;; *) exit $status;; esac'


class PBSScheduler(BatchSystem):
    """A job's elements are its subjobs, 1 to the number of workers; its id is 12[].server, or 12.server for one."""

    name = "pbs"
    title = "PBS"
    program = "qsub"
    lister = "qstat"
    busy = ("cannot connect to server", "would exceed")
    prefix = "#PBS"
    element = "{PBS_ARRAY_INDEX:-1}"
    exact = r"[0-9]+(\[\])?\.[^ ]+"
    notice = 8.0  # SIGTERM comes kill_delay before the end, which is 10 s unless the queue says otherwise
    programs = ("qsub", "pbsnodes")

    def directives(self, job: Job, config: Config, site: Site | None) -> Iterator[str]:
        """Yield the options of a job file. The output goes where qsub ran: into the job's own directory."""
        chunk = f"select=1:ncpus={config.cpus or 1}"
        if config.memory_bytes is not None:
            chunk += f":mem={-(-(config.memory_bytes + WORKER_MEMORY) // 2**20)}mb"
        if config.gpus is not None:
            chunk += f":ngpus={config.gpus}"
        yield f"-l {chunk}"
        if config.time_seconds is not None:
            yield f"-l walltime={config.time_seconds}"
        if config.queue is not None:
            yield f"-q {config.queue}"
        yield from ("-j oe", "-r y", "-S /bin/sh", f"-N {job.name}")
        if job.workers > 1:  # PBS has no array of one
            yield f"-J 1-{job.workers}"

    def directory(self, config: Config) -> str:
        """Return the directory to which the job file changes: PBS starts a job in the home directory."""
        return f'"{"" if config.ssh_dir.startswith("/") else "$HOME/"}{config.ssh_dir}"'

    def commands(self, job: Job, options: Sequence[str]) -> tuple[str, str]:
        """Return the shell commands that submit and find the job."""
        return f"qsub {job.file}", f'qselect -u "$(id -un)" -N {shlex.quote(job.name)} | head -n 1'

    def job_id(self, text: str) -> str:
        """Return the id that qsub printed."""
        if not re.fullmatch(r"\d+(\[\])?\.\S+", text.strip()):
            raise SchedulerError(f"qsub printed {text!r}, not the id of a job")
        return text.strip()

    def jobs(self, host: Host, asked: Sequence[str]) -> dict[str, JobStatus]:
        """Return what it says of these jobs."""
        return parse_states(host.run(["sh", "-c", LIST, "sh", *asked]))

    def gone(self, host: Host, job: str) -> bool:
        """Ask about the one job."""
        said = host.run(["sh", "-c", 'qstat "$1" 2>&1; true', "sh", job]).decode(errors="replace")
        return "Unknown Job Id" in said or "Job has finished" in said

    def named(self, host: Host, name: str) -> list[str]:
        """Ask for the name: qselect lists ids."""
        said = host.run(["sh", "-c", 'qselect -u "$(id -un)" -N "$1"', "sh", name]).decode(errors="replace")
        return re.findall(r"^\d+(?:\[\])?\.\S+$", said, re.MULTILINE)

    def delete(self, jobs: Sequence[str]) -> list[str]:
        """Return qdel."""
        return ["qdel", *jobs]

    def here(self, which: Callable[[str], str | None], environ: Mapping[str, str]) -> tuple[bool, str]:
        """Look for pbsnodes, which no other batch system has, and for the configuration."""
        conf = environ.get("PBS_CONF_FILE", "/etc/pbs.conf")
        if not which("pbsnodes"):
            return False, "pbsnodes is not on PATH"
        return os.path.exists(conf), f"pbsnodes is on PATH, and there is {'a' if os.path.exists(conf) else 'no'} {conf}"

    def there(self, programs: Container[str]) -> str:
        """Look for both."""
        return "qsub and pbsnodes" if all(program in programs for program in self.programs) else ""

    def refused(self, host: Host, job: Job, words: str, status: int) -> SchedulerError | None:
        """PBS says that the array is too large, but not how large it may be."""
        too_large = "exceeds server or queue size limit" in words and job.workers > 1
        return TooManyWorkers(words, job.workers // 2) if too_large else None

    def ends(self, host: Host, job: str) -> list[End]:
        """Ask for the jobs that have ended, too, which PBS remembers if its administrators say so."""
        return parse_ends(host.run(["qstat", "-x", "-t", "-f", job], timeout=20.0))

    def waits(self, host: Host, job: str) -> str:
        """Return PBS's comment."""
        comments = (fields["comment"] for _, fields in records(host.run(["qstat", "-f", job])))
        return next(filter(None, comments), "")


def records(output: bytes) -> Iterator[tuple[str, collections.defaultdict[str, str]]]:
    """Yield the id and the fields of each job that `qstat -f` lists. Long lines go on behind a tab."""
    text = output.decode(errors="replace").replace("\n\t", "")
    for record in re.split(r"^Job Id: *", text, flags=re.MULTILINE)[1:]:
        job, *lines = record.split("\n")
        fields = (line.strip().partition(" = ") for line in lines)
        yield job.strip(), collections.defaultdict(str, {key: value for key, _, value in fields})


def parse_states(output: bytes) -> dict[str, JobStatus]:
    """Return the jobs, also those that have ended, from `qstat -t -f`."""
    states: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for name, fields in records(output):
        job, element = re.sub(r"\[\d+\]", "[]", name), re.search(r"\[(\d*)\]", name)
        if element is None or element[1]:
            states[job][element[1] if element else "1"] = fields["job_state"]
    found = {}
    for job, elements in states.items():
        waiting = [state for state in elements.values() if state in PENDING | HELD]
        running = frozenset(number for number, state in elements.items() if state in RUNNING)
        found[job] = JobStatus(len(waiting), running, held=not HELD.isdisjoint(waiting))
    return found


def parse_ends(output: bytes) -> list[End]:
    """Return how each element of a job ended, from `qstat -x -t -f`; above 256 it is a signal."""
    codes = [fields["Exit_status"] for name, fields in records(output) if "[]" not in name]
    ends = (f"signal {int(code) - 256}" if int(code) > 256 else f"exit status {code}" for code in codes if code)
    return [End(end) for end in ends]
