"""Local processes: the workers are processes of the host, started by a shell and known by their process ids."""

from __future__ import annotations

from collections.abc import Sequence

from ..deployment import Host
from ..errors import CommandFailed, SchedulerError
from ..job_file import Job, local_script
from ..model import JobStatus
from ..upload import marks, upload_and_run


class LocalScheduler:
    """A job's id is its workers' process ids, in the order of the elements."""

    name = "local"
    interval = 1.0

    def __init__(self, directory: str = "") -> None:
        self.directory = directory

    def files(self, job: Job) -> dict[str, bytes]:
        """Return the script that starts the workers."""
        return {"submit.sh": local_script(job, self.directory)}

    def submit(self, host: Host, job: Job, files: dict[str, bytes]) -> tuple[str, str]:
        """Start the workers."""
        try:
            answer = marks(upload_and_run(host, job.directory, files, "submit.sh"))
        except CommandFailed as error:
            words = error.errors.decode(errors="replace").strip()
            raise SchedulerError(
                f"the workers cannot be started on {host.name}: {words} (the option shell is {job.python!r})"
            ) from error
        return answer["job"], answer["directory"]

    def status(self, host: Host, jobs: Sequence[str]) -> dict[str, JobStatus]:
        """Ask ps. A process that has ended but is not waited for yet is a zombie, and counts as ended."""
        jobs = list(jobs)
        alive = self._alive(host, [pid for job in jobs for pid in job.split()])
        return {job: self._status(job, alive) for job in jobs}

    @staticmethod
    def _alive(host: Host, pids: list[str]) -> set[str]:
        """Return those that are workers still: a number may belong to another process by now."""
        alive = set()
        for line in host.run(["sh", "-c", f"ps -ww -o pid=,stat=,args= -p {','.join(pids)} || true"]).splitlines():
            pid, stat, args = [*line.decode(errors="replace").split(None, 2), "", ""][:3]
            if not stat.startswith("Z") and "client.py" in args:
                alive.add(pid)
        return alive

    @staticmethod
    def _status(job: str, alive: set[str]) -> JobStatus:
        running = frozenset(str(number) for number, pid in enumerate(job.split(), 1) if pid in alive)
        return JobStatus(running=running, reason="" if running else "its processes ended before the tasks did")

    def cancel(self, host: Host, job: str) -> None:
        """End the workers; their children end with them."""
        pids = self._alive(host, job.split())
        if pids:
            host.run(["sh", "-c", f"kill -9 {' '.join(pids)} || true"])
