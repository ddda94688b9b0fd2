"""Local processes: the workers are processes of the host, started by a shell and known by their process ids."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from ..config import Config
from ..deployment import Host
from ..deployment.upload import marks, upload_and_run
from ..errors import CommandFailed, SchedulerError
from ..values.model import ArrayJob, End, JobStatus
from .job_file import Job, setup
from .site import USUAL, Site

# Prints what runs under these process ids. A process that has ended but is not waited for has no command line in /proc.
LOOK = """if [ -r /proc/self/cmdline ] && command -v tr >/dev/null; then
  for pid; do
    [ ! -r /proc/$pid/cmdline ] || echo $pid $(tr '\\0' ' ' </proc/$pid/cmdline)
  done
  echo looked
elif command -v ps >/dev/null; then
  for pid; do
    ps -ww -o pid=,args= -p $pid
  done
  echo looked
fi"""


# Ends those of these processes that are stopped, by SIGSTOP or Ctrl-Z.
END_STOPPED = """for pid; do
  if [ -r /proc/$pid/status ]; then
    grep -q '^State:[[:space:]]*T' /proc/$pid/status
  else
    ps -o state= -p $pid | grep -q '^T'
  fi && kill -9 $pid
done
true"""


class LocalScheduler:
    """A job's id is its workers' process ids, in the order of the elements."""

    name = "local"
    interval = 1.0
    notice = 10.0

    def __init__(self, directory: str = "") -> None:
        self.directory = directory

    def site(self, host: Host, config: Config) -> Site:  # noqa: ARG002
        """Return nothing of use: processes ask for nothing."""
        return USUAL

    def files(self, job: Job, config: Config, site: Site | None = None) -> dict[str, bytes]:  # noqa: ARG002
        """Return the script that starts the workers."""
        return {"submit.sh": local_script(job, self.directory)}

    def submit(self, host: Host, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        """Start the workers."""
        try:
            answer = marks(upload_and_run(host, job.directory, files, "submit.sh"))
        except CommandFailed as error:
            words = error.errors.decode(errors="replace").strip()
            hint = f" (the option shell is {job.python!r})" if error.status == 127 else ""
            raise SchedulerError(f"the workers cannot be started on {host.name}: {words}{hint}") from error
        return self.job_id(answer["job"]), answer["directory"]

    def job_id(self, text: str) -> str:
        """Return the process ids."""
        return text.strip()

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Look which of the processes run."""
        jobs = list(jobs)
        alive = self._alive(host, [pid for job in jobs for pid in job.split()])
        return {job: self._status(job, alive) for job in jobs}

    @staticmethod
    def _alive(host: Host, pids: list[str], directories: Sequence[str] = ("",)) -> set[str]:
        """Return those that are workers still, of these directories: a number may be another process's by now."""
        if not pids:
            return set()
        output = host.run(["sh", "-s", *pids], LOOK.encode()).decode(errors="replace")
        if "looked" not in output.split():
            raise SchedulerError(f"cannot see which processes run on {host.name}: neither /proc nor ps is of use there")
        files = [f"{directory}/client.pyz" for directory in directories]
        return {line.split()[0] for line in output.splitlines() if any(file in line for file in files)}

    @staticmethod
    def _status(job: str, alive: set[str]) -> JobStatus:
        running = frozenset(str(number) for number, pid in enumerate(job.split(), 1) if pid in alive)
        if running:
            return JobStatus(running=running)
        return JobStatus(reason="its processes ended before the tasks did", started=True)  # none ever waits

    def avoid(self, config: Config, hosts: Sequence[str]) -> Config:  # noqa: ARG002
        """Return them unchanged: there is one host."""
        return config

    def ends(self, host: Host, job: str) -> Sequence[End]:  # noqa: ARG002
        """Return nothing: it is not kept."""
        return ()

    def hopeless(self, host: Host, job: str) -> str:  # noqa: ARG002
        """Return nothing: processes do not wait."""
        return ""

    def explain(self, host: Host, job: str) -> str:  # noqa: ARG002
        """Return nothing: processes do not wait."""
        return ""

    def end_stopped(self, host: Host, job: str, elements: Iterable[str]) -> None:
        """End those of a job's workers that are stopped: nobody else would, when others have their tasks."""
        pids = job.split()
        host.run(["sh", "-s", *(pids[int(element) - 1] for element in elements)], END_STOPPED.encode())

    def cancel(self, host: Host, jobs: Sequence[ArrayJob]) -> bool:
        """End the workers; their children end with them."""
        pids = self._alive(host, [pid for job in jobs for pid in job.job.split()], [job.directory for job in jobs])
        if pids:
            host.run(["sh", "-c", f"kill -9 {' '.join(pids)} || true"])
        return bool(pids)


def local_script(job: Job, directory: str) -> bytes:
    """Return a script that starts the workers as processes of the host, in this working directory."""
    start = f'{job.python} "$here/client.pyz" "$here" $element'
    if job.setup:
        lines = f"{setup(job.setup)}exec {start.replace('$here', '$1').replace('$element', '$2')}"
        start = f'"$(command -v bash || echo sh)" -c {shlex.quote(lines)} sh "$here" $element'
    return f"""here=$(pwd)
set -- {job.python}
if ! command -v "$1" >/dev/null; then
  echo "$1: not found" >&2
  cd / && rm -rf "$here"
  exit 127
fi
if ! cd {shlex.quote(directory) if directory else '"$HOME"'}; then
  rm -rf "$here"
  exit 1
fi
umask "${{umask:-$(umask)}}"
if [ ! -s "$here/job_id" ]; then
  pids=
  element=1
  while [ $element -le {job.workers} ]; do
    {start} >"$here/worker.$element.log" 2>&1 </dev/null &
    pids="$pids $!"
    element=$((element + 1))
  done
  echo $pids >"$here/job_id"
fi
echo "sheepdog:job $(cat "$here/job_id")"
echo "sheepdog:directory $here"
""".encode()
