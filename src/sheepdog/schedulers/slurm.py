"""Slurm: sbatch, squeue, scancel, sacct or scontrol, run on the head node; and the parsers of what they print."""

from __future__ import annotations

import collections
import os
import re
import shlex
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace

from ..config import Config, sbatch
from ..deployment import Host
from ..errors import HostError, SchedulerBusy, SchedulerError, TooManyWorkers
from ..values.model import End, Fate, JobStatus
from .batch import WORKER_MEMORY, BatchSystem, expand, unknown_resource
from .job_file import Job
from .site import Site

PENDING = {"PENDING", "REQUEUED", "REQUEUE_FED"}
BROKEN = {"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
# Slurm also accepts what can never start, and lets it wait. Reasons without spaces and underscores, in small letters.
HELD = {"jobhelduser", "jobheldadmin"}
FAILED_STARTS = {"launchfailedrequeuedheld", "jobholdmaxrequeue"}
NEVER = {
    "accountnotallowed": "the account may not use the partition",
    "badconstraints": "no node can be what was asked for",
    "invalidaccount": "the account is not valid",
    "invalidqos": "the QOS is not valid",
    "partitionconfig": "it asks for more than a node of the partition has, or for more than the partition allows",
    "partitiondown": "the partition is down",
    "partitioninactive": "the partition is inactive",
    "partitionnodelimit": "it asks for more nodes than the partition allows",
    "partitiontimelimit": "it asks for more time than the partition allows",
    "qosnotallowed": "the QOS may not use the partition",
    "reqnodenotavail": "a node that it needs is not available",
}
WAITS = {
    "assocmaxjobslimit": "you have as many running jobs as your account may have",
    "begintime": "its time to begin has not come, or it was requeued just now",
    "jobarraytasklimit": "as many of its elements run as may run at once",
    "none": "Slurm has not looked at it yet",
    "priority": "other jobs come first",
    "qosmaxjobsperuserlimit": "you have as many running jobs as the QOS allows",
    "resources": "no node is free",
}
FATES = {"CANCELLED": Fate.DELETED, "COMPLETED": Fate.ITSELF}
# The accounting knows for long, but of each element a little later than the controller, which forgets after minutes.
HOW_ENDED = (
    'sacct -X -n -P -j "$1" -o State,ExitCode,JobID,NodeList 2>/dev/null; scontrol -o show job "$1" 2>/dev/null; true'
)
# Start-up files may set these: for SBATCH_WAIT, sbatch ends with the job, and for the others squeue hides jobs.
CLEAN = (
    "unset SBATCH_WAIT SQUEUE_ACCOUNT SQUEUE_LICENSES SQUEUE_NAMES SQUEUE_PARTITION SQUEUE_QOS SQUEUE_STATES "
    "SQUEUE_USERS; "
)


UNKNOWN = "Invalid job id specified"  # squeue: it has forgotten the job, or never had it


def listening(command: str) -> str:
    """Return a shell command that fails if a command says that it was not answered.

    Under load squeue ends with 0, lists nothing or less than there is, and says on its standard error why. Of a site
    whose configuration is faulty it says so each time, which tells nothing.
    """
    words = f"{{ words=$({command} 2>&1 >&3 3>&-); status=$?; }} 3>&1"
    failed = "|".join(f"*{shlex.quote(sign)}*" for sign in ("slurm_load", *SlurmScheduler.busy))
    check = f"case $words in {failed}) [ $status -ne 0 ] || status=1;; esac"
    return f'{CLEAN}{words}; echo "$words" >&2; {check}; exit $status'


class SlurmScheduler(BatchSystem):
    """A job's elements are those of the array, 1 to the number of workers."""

    name = "slurm"
    title = "Slurm"
    program = "sbatch"
    lister = "squeue"
    busy = (
        "Unable to contact slurm controller",
        "Socket timed out",
        "Zero Bytes were transmitted",
        "Resource temporarily unavailable",
        "temporarily unable to accept job",
        "controller in standby mode",
    )
    prefix = "#SBATCH"
    element = "SLURM_ARRAY_TASK_ID"
    exact = "[0-9]+(;[^ ]+)?"
    notice = 25.0  # SIGTERM comes KillWait before the end, which is 30 s unless its administrators say otherwise
    programs = ("sbatch", "qsub")

    def directives(self, job: Job, config: Config, site: Site | None) -> Iterator[str]:  # noqa: ARG002
        """Yield the options of a job file: the user's first, then ours."""
        return directives(job, config)

    def avoid(self, config: Config, hosts: Sequence[str]) -> Config:
        """Leave nodes out."""
        return replace(config, slurm_opts=sbatch.avoiding(config.slurm_opts, hosts))

    def directory(self, config: Config) -> str:
        """Return the directory to which the job file changes: Slurm runs a job in /tmp if its directory is missing."""
        given = sbatch.given(config.slurm_opts, "-D", "--chdir")
        if given is not None:
            return shlex.quote(given)
        return f'"{"" if config.ssh_dir.startswith("/") else "$HOME/"}{config.ssh_dir}"'

    def commands(self, job: Job, options: Sequence[str]) -> tuple[str, str]:
        """Return the shell commands that submit and find the job."""
        named = f'-u "$(id -un)" -n {shlex.quote(job.name)}'
        # Of an array that it refuses ("Requested node configuration is not available") Slurm keeps a record for
        # minutes: FAILED, and never on a node.
        number = "sed -n '/|FAILED|$/d; s/^\\([0-9]*\\)|.*/\\1/p' | head -n 1"
        find = f"squeue -h -a -t all {named} -o '%F|%T|%N' 2>/dev/null | {number}"
        # For sbatch, the environment goes before what the job file says, and the command line before both.
        words = shlex.join(word for option in options for word in shlex.split(option, comments=True))
        return f"{CLEAN}sbatch --parsable {words} {job.file}", f"{CLEAN}{find}"

    def job_id(self, text: str) -> str:
        """Return the job's number."""
        return parse_sbatch(text)

    def here(self, which: Callable[[str], str | None], environ: Mapping[str, str]) -> tuple[bool, str]:
        """Look for sbatch, and for a configuration: Slurm's commands alone may be on any machine."""
        found = which("sbatch")
        if not found:
            return False, "sbatch is not on PATH"
        conf = next(filter(os.path.exists, confs(found, environ)), None)
        if conf is None:
            return False, "sbatch is on PATH, but no slurm.conf is found"
        return True, f"sbatch is on PATH with {conf}"

    def there(self, programs: Container[str]) -> str:
        """Look for sbatch, where there is no Grid Engine."""
        return f"sbatch and no {'qconf' if 'qsub' in programs else 'qsub'}" if "sbatch" in programs else ""

    def refused(self, host: Host, job: Job, words: str, status: int) -> SchedulerError | None:  # noqa: ARG002
        """Tell limits of the site from faults of the job: Slurm says that there is one, but not which."""
        try:
            if "Invalid job array specification" in words:
                most = parse_config(host.run(["scontrol", "show", "config"])).get("MaxArraySize", "")
                if most.isdigit() and job.workers >= int(most):
                    return TooManyWorkers(f"{words} (MaxArraySize is {most})", int(most) - 1)
            if re.search(r"SubmitJobs?(PerUser|PerAccount)?Limit", words):
                if job.workers > 1:  # many limits can be the one, and Slurm does not say how much room there is
                    return TooManyWorkers(words, job.workers // 2)
                return SchedulerBusy(f"{words} (it may be taken later)")
            if unknown := re.search(r"invalid partition specified: (\S+)", words):
                names = host.run(["sinfo", "-h", "-a", "-o", "%R"]).decode(errors="replace").split()
                return unknown_resource(words, unknown[1], names)
            if unknown := re.search(r"unrecognized option '--([\w-]+)", words):
                names = re.findall(r"--([a-z][a-z-]+)", host.run(["sbatch", "--help"]).decode(errors="replace"))
                return unknown_resource(words, unknown[1], names)
        except HostError:
            return None
        return None

    def jobs(self, host: Host, asked: Sequence[str]) -> dict[str, JobStatus]:  # noqa: ARG002
        """Return the user's jobs."""
        # Without the variable, squeue shortens long lists of elements.
        command = listening('SLURM_BITSTR_LEN=0 squeue -h -a -u "$(id -un)" -o "%F|%K|%T|%r"')
        return parse_squeue(host.run(["sh", "-c", command]))

    def gone(self, host: Host, job: str) -> bool:
        """Ask about the one job. Of one that it has forgotten, squeue says so, and fails."""
        command = f'{CLEAN}squeue -h -a -t all -j "$1" -o "%F|%T" 2>&1; true'
        return parse_gone(host.run(["sh", "-c", command, "sh", job]), job)

    def named(self, host: Host, name: str) -> list[str]:
        """Ask for the name."""
        command = listening('squeue -h -a -u "$(id -un)" -n "$1" -o "%F|%T"')
        said = host.run(["sh", "-c", command, "sh", name]).decode(errors="replace")
        return list(dict.fromkeys(re.findall(r"^(\d+)\|", said, re.MULTILINE)))

    def waits(self, host: Host, job: str) -> str:
        """Return the reason that squeue says, and what it means."""
        command = CLEAN + 'squeue -h -a -t PD -j "$1" -o "%F|%K|%T|%r"'
        return parse_reason(host.run(["sh", "-c", command, "sh", job]), job)

    def ends(self, host: Host, job: str) -> list[End]:
        """Ask the accounting; where there is none, the controller, which remembers jobs for some minutes."""
        return parse_ends(host.run(["sh", "-c", HOW_ENDED, "sh", job], timeout=20.0))

    def delete(self, jobs: Sequence[str]) -> list[str]:
        """Return scancel. Without -Q it says of each job that it has ended already."""
        return ["scancel", "-Q", *jobs]


def directives(job: Job, config: Config) -> Iterator[str]:
    """Yield the options of a job file: the user's first, then ours."""
    yield from (option for option in config.slurm_opts if not re.match("-D|--chdir[= ]", option))
    if sbatch.given(config.slurm_opts, "-o", "--output") is None:
        yield "--output=%x.o%A.%a"  # in the directory where it is submitted: the job's own
    if sbatch.given(config.slurm_opts, "--open-mode") is None:
        yield "--open-mode=append"  # a worker that is started again adds to what it said
    if config.queue is not None:
        yield f"--partition={config.queue}"
    if config.cpus is not None:
        yield f"--cpus-per-task={config.cpus}"
    if config.gpus is not None:
        yield f"--gres=gpu:{config.gpus}"  # --gpus is younger, and not there with every SelectType
    if config.memory_bytes is not None:
        yield f"--mem={-(-(config.memory_bytes + WORKER_MEMORY) // 2**20)}M"
    if config.time_seconds is not None:
        yield f"--time={-(-config.time_seconds // 60)}"  # minutes: Slurm knows nothing shorter
    if sbatch.given(config.slurm_opts, "--requeue", "--no-requeue") is None:
        yield "--requeue"  # a node that is given up gives its workers up, too
    yield f"--job-name={job.name}"
    yield f"--array=1-{job.workers}"


def confs(program: str, environ: Mapping[str, str]) -> list[str]:
    """Return where the configuration of a Slurm may be whose sbatch is this."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    places = [f"{prefix}/etc", f"{prefix}/etc/slurm", "/etc/slurm", "/etc/slurm-llnl", "/run/slurm/conf"]
    return [*filter(None, [environ.get("SLURM_CONF")]), *(f"{place}/slurm.conf" for place in places)]


def parse_sbatch(text: str) -> str:
    """Return the job's number from what sbatch --parsable printed: 12, or 12;CLUSTER."""
    match = re.fullmatch(r"(\d+)(?:;\S+)?", text.strip())
    if match is None:
        raise SchedulerError(f"sbatch printed {text!r}, not the number of a job")
    return match[1]


def parse_squeue(output: bytes) -> dict[str, JobStatus]:
    """Return the jobs that `squeue -o %F|%K|%T|%r` lists: a line a running element, one for many that wait."""
    pending: collections.Counter[str] = collections.Counter()
    held: set[str] = set()
    broken: set[str] = set()
    reasons: dict[str, str] = {}
    running: dict[str, set[str]] = collections.defaultdict(set)
    for line in output.decode(errors="replace").splitlines():
        job, elements, state, reason = (line.strip().split("|", 3) + [""] * 4)[:4]
        if not job.isdigit() or state in ENDED:
            continue
        found = list(expand(elements.partition("%")[0])) or ["1"]
        plain = {_plain(one) for one in _several(reason)}
        if state in BROKEN or plain <= FAILED_STARTS:
            broken.add(job)
            reasons[job] = f"Slurm has given up starting the array job {job} ({reason or state})"
        elif state in PENDING:
            pending[job] += len(found)
            if plain <= HELD:
                held.add(job)
            elif plain <= HELD | NEVER.keys():
                reasons.setdefault(job, f"Slurm cannot start the array job {job} as things are: {_said(reason)}")
        else:
            running[job].update(found)
    return {
        job: JobStatus(pending[job], frozenset(running.get(job, ())), job in broken, job in held, reasons.get(job, ""))
        for job in pending.keys() | broken | running.keys()
    }


def parse_gone(output: bytes, job: str) -> bool:
    """Tell whether `squeue -t all -j JOB -o %F|%T` says that there is no such job, or that all of it has ended."""
    said = output.decode(errors="replace")
    states = re.findall(rf"^{job}\|(\w+)\s*$", said, re.MULTILINE)
    return UNKNOWN in said or (bool(states) and ENDED.issuperset(states))


def parse_reason(output: bytes, job: str) -> str:
    """Return why a job waits, from `squeue -o %F|%K|%T|%r`: the first reason that says anything."""
    said = re.findall(rf"^{job}\|[^|\n]*\|[A-Z_]+\|(.*\S)\s*$", output.decode(errors="replace"), re.MULTILINE)
    said.sort(key=lambda reason: reason == "None")
    return _said(said[0]) if said else ""


def parse_ends(output: bytes) -> list[End]:
    """Return how each element of a job ended, from what HOW_ENDED prints: what sacct says, and else scontrol."""
    text = output.decode(errors="replace")
    line = r"^([A-Z_]+[^|\n]*)\|(\d+:\d+)\|(\d+(?:_\[?[^|\]\n]*\]?)?)\|([^|\n]*)\|?$"
    records = [
        (state, code, job.partition("_")[2].strip("[]"), node)
        for state, code, job, node in re.findall(line, text, re.MULTILINE)
    ]
    for fields in (dict(re.findall(r"(\w+)=(\S+)", line)) for line in text.splitlines()):
        if "JobState" in fields and "ExitCode" in fields:
            element, node = (fields.get(name, "") for name in ("ArrayTaskId", "NodeList"))  # nothing behind the sign
            records.append((fields["JobState"], fields["ExitCode"], element, node))
    ends: dict[str, End] = {}
    for state, code, elements, node in records:
        status, _, signal = code.partition(":")
        how = f", signal {signal}" if signal != "0" else f", exit status {status}"
        first = state.split()[0]
        if first in ENDED:
            said = state + how if state == "FAILED" else state
            host = "" if node in ("(null)", "None assigned") else node
            for name in expand(elements.partition("%")[0] or "1"):
                ends.setdefault(name, End(said, FATES.get(first, Fate.OTHER), name, host))
    return [*ends.values()]


def parse_config(output: bytes) -> dict[str, str]:
    """Return what `scontrol show config` says."""
    return dict(re.findall(r"^(\w+)\s*= *(.*?)\s*$", output.decode(errors="replace"), re.MULTILINE))


def _several(reason: str) -> list[str]:
    """Return the reasons of elements that share a line; a comma within one has a space behind it."""
    return re.split(r",(?! )", reason)


def _plain(reason: str) -> str:
    return re.sub("[ _]|,.*", "", reason).lower()


def _said(reason: str) -> str:
    """Return reasons with what they mean."""
    meanings = {**NEVER, **WAITS}
    said = ((one, meanings.get(_plain(one))) for one in _several(reason))
    return ", ".join(f"{one} ({meaning})" if meaning else one for one, meaning in said)
