"""What stands between us and the schedulers' words: start-up files and wrappers of a site's, on real ones."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import fault
from tests.on_cluster.programs import ran_so_far, run
from tests.user import User

NOISE = r"""
printf '\033]0;%s\007' "$(hostname)"
trap 'printf "\033]0;bye\007"; echo bye' EXIT
PATH=$HOME/bin:$PATH
"""
THANKS = """#!/bin/sh
echo "Welcome to the site's {0}"
/usr/bin/{0} "$@"
status=$?
echo "Thank you for your job"
echo "Your previous job was {1}"
exit $status
"""
LISTS = {
    "qstat": """case "$*" in *-u*) echo '<job_info><queue_info/><job_info/></job_info>'; exit;; esac""",
    "squeue": """case "$*" in *-n*|*-j*) ;; *) echo 'slurm_load_jobs error: Try again' >&2; exit;; esac""",
}
CLOSED = """
def is_closed(request_id):
    with Storage(DB) as storage: return storage.get_request(request_id).state.name == "CLOSED"
"""


class Site:
    """What a site, or a user, has put before the schedulers' commands."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.home = user.cluster.home_of("sheep")
        self.before = {name: self.read(name) for name in (".bashrc", ".sge_request")}
        self.slurm = user.cluster.scheduler == "slurm"
        user.sh("head", "mkdir -p bin")
        self.write(".bashrc", NOISE + self.before[".bashrc"])

    def read(self, name: str) -> str:
        file = self.home / name
        return file.read_text() if file.exists() else ""

    def write(self, name: str, text: str) -> Path:
        file = self.home / name
        file.write_text(text)
        file.chmod(0o755)
        return file

    def wrap(self, job: str) -> None:
        """Have the commands that submit and list print more, and another job's id."""
        for name in ("sbatch", "squeue") if self.slurm else ("qsub", "qstat"):
            self.write(f"bin/{name}", THANKS.format(name, job))

    def hide(self) -> None:
        """Have the command that lists jobs list none."""
        name = "squeue" if self.slurm else "qstat"
        self.write(f"bin/{name}", f'#!/bin/sh\n{LISTS[name]}\nexec /usr/bin/{name} "$@"\n')

    def leave(self) -> None:
        self.user.sh("head", "rm -rf bin ran")
        for name, text in self.before.items():
            self.write(name, text) if text else (self.home / name).unlink(missing_ok=True)


@pytest.fixture(params=["user", "slurm_user"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(request.getfixturevalue(request.param))
    yield made
    made.leave()


@fault(
    "wrappers",
    "commands of the site's that print more, another job's id, start-up files that print, and -sync y",
    promise="the job is found by its name; the other job is not touched",
)
def test_another_job_s_id(site: Site) -> None:
    hold = "sbatch --parsable -H --wrap true" if site.slurm else "qsub -terse -h -b y true"
    other = site.user.sh("head", hold).strip()
    site.wrap(other)
    if not site.slurm:
        site.write(".sge_request", "-sync y\n")
    code = """
        C.update(workers=2)
        first = sheepdog.map(f, [(i, i) for i in range(4)], C)
        request_id = sheepdog.map_async(note, [(i, 100) for i in range(4)], C)
        until(lambda: os.path.exists(RAN))
        with Storage(DB) as storage: jobs = [array.job for array in storage.arrays(request_id)]
        sheepdog.cancel(request_id, DB)
        until(lambda: is_closed(request_id))
        show([first, jobs])
    """
    first, jobs = run(site.user, f"RAN = {str(site.home / 'ran')!r}\n" + CLOSED + textwrap.dedent(code))
    assert first == [0, 2, 4, 6]
    assert len(jobs) == 1
    assert other not in jobs
    site.user.sh("head", "rm -rf bin")
    assert other in site.user.queue()
    site.user.sh("head", f"{'scancel' if site.slurm else 'qdel'} {other}")


@fault("silence", "jobs that the scheduler's list does not show", promise="no end; cancel deletes them all the same")
def test_a_list_without_the_job(site: Site) -> None:
    site.hide()
    hold = '"--hold"' if site.slurm else '"-h"'
    code = f"""
        C.update(workers=2)
        C["slurm_opts" if C.get("scheduler") == "slurm" else "ge_opts"] = [{hold}]
        request_id = sheepdog.map_async(f, [(1, 2), (3, 4)], C)
        def note():
            with Storage(DB) as storage: return storage.progress(request_id).note
        until(note, 150)
        said = note(), errors(), job()
        sheepdog.cancel(request_id, DB)
        until(lambda: is_closed(request_id))
        show(said)
    """
    said, errors, job = run(site.user, CLOSED + textwrap.dedent(code), 240)
    assert "the scheduler has not answered since" in said
    assert errors == []
    assert job
    assert job not in site.user.queue().split()
    assert ran_so_far(site.user) == []


@fault("way home", "workers run, and cannot reach the server", promise="their own words, in the first minute")
def test_workers_that_cannot_reach_the_server(site: Site) -> None:
    code = """
        C.update(workers=2, localhost="no-such-sheep.invalid", link="direct")
        request_id = sheepdog.map_async(f, [(1, 2), (3, 4)], C)
        def note():
            with Storage(DB) as storage: return storage.progress(request_id).note
        until(lambda: "They say" in note(), 55)
        said = note()
        sheepdog.cancel(request_id, DB)
        until(lambda: is_closed(request_id))
        show(said)
    """
    site.user.sh("head", "echo 0 >/proc/sys/net/ipv4/ip_forward", user="root")  # nor by another address
    try:
        said = run(site.user, CLOSED + textwrap.dedent(code))
    finally:
        site.user.sh("head", "echo 1 >/proc/sys/net/ipv4/ip_forward", user="root")
    assert "workers run, but none has reached https://no-such-sheep.invalid" in said
    assert re.search(r"cannot reach https://no-such-sheep.invalid:\d+ \(.*[Nn]ame.*\)", said)


@fault("qdel all", "the array job is deleted while it waits", promise="it does not come back, and that is said")
def test_a_waiting_job_that_is_deleted(site: Site) -> None:
    hold, delete = ('"--hold"', "scancel") if site.slurm else ('"-h"', "qdel")
    code = f"""
        C.update(workers=2)
        C["slurm_opts" if C.get("scheduler") == "slurm" else "ge_opts"] = [{hold}]
        request_id = sheepdog.map_async(f, [(1, 2)], C)
        head({delete!r}, job())
        until(errors)
        show([errors(), job(), arrays()])
    """
    [error], job, arrays = run(site.user, code)
    command = "scancel" if site.slurm else "qdel"
    assert error.startswith(f"the array job {job} was deleted ({command}); `sheepdog.retry(")
    assert arrays == 1
