"""Workers that are submitted again, submissions that nobody saw to the end, and another port."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client import RESULT
from sheepdog.errors import HostError
from sheepdog.schedulers import submit as submission
from sheepdog.server.calls import Call
from sheepdog.server.decide import exchange
from sheepdog.server.decide.outcomes import LASTING
from sheepdog.server.scheduling.nodes import AGAIN, HOME_SECONDS, LONGEST
from sheepdog.server.scheduling.submitting import LATE_ANSWER
from sheepdog.storage import Storage
from sheepdog.values import identity as process
from sheepdog.values.model import Kind, RequestState
from tests.faults import fault
from tests.schedulers.head import Head
from tests.server.scheduling.fakes import INTERVAL, OPEN, FakeScheduler, Farm
from tests.waiting import until

# Requests whose maker has ended


@pytest.fixture
def ended() -> dict[str, Any]:
    """The signature of a process that has ended."""
    words = "import json; from sheepdog.values import identity as process; print(json.dumps(process.sign()))"
    return dict(json.loads(subprocess.check_output([sys.executable, "-c", words])))


@fault(40, "a client that dies before the array job is submitted", promise="the request ends with that reason")
def test_a_request_whose_maker_has_ended_is_ended(farm: Farm, ended: dict[str, Any]) -> None:
    lost = farm.request("", maker=ended)
    being_made = farm.request("", maker=process.sign())
    elsewhere = farm.request("", maker={**ended, "space": "pid:[1]"})
    farm.look()
    assert farm.storage.requests(*OPEN) == [being_made, elsewhere]
    assert farm.errors(lost)[0] == "not run: the program that made the request ended before it was submitted"


@fault(40, "the client is killed after qsub took the job", promise="the job is found, and its results come")
def test_an_array_job_whose_maker_has_ended_is_found(farm: Farm, ended: dict[str, Any]) -> None:
    request = farm.request("", maker=ended)
    array = farm.array(request)
    farm.put(request, FakeScheduler())
    (Path(array.directory) / "job_id").write_text("4711.1-2:1\n")
    farm.look()
    assert farm.state(request) == RequestState.NEW  # the answer may still come
    farm.look(LATE_ANSWER)
    assert farm.state(request) == RequestState.SUBMITTED
    assert farm.storage.arrays(request) == [replace(array, job="4711")]
    farm.finish(request)
    assert farm.storage.progress(request).done == 2


@fault(40, "the client is killed before qsub took the job", promise="the request ends, and says so")
def test_an_array_job_that_was_never_submitted(farm: Farm, ended: dict[str, Any]) -> None:
    request = farm.request("", maker=ended)
    farm.array(request)
    fake = farm.put(request, FakeScheduler())
    farm.look()
    fake.error = HostError("does not answer")
    farm.look(LATE_ANSWER)
    assert farm.state(request) == RequestState.NEW  # nobody knows
    fake.error = None
    farm.look(AGAIN + LATE_ANSWER)
    assert farm.errors(request)[0].endswith("ended before it was submitted")


def test_the_array_jobs_of_an_earlier_attempt_are_not_taken_for_the_one_that_was_not_submitted(
    farm: Farm, ended: dict[str, Any]
) -> None:
    """Their directories are there still, with the job's number."""
    request = farm.request("7")
    farm.put(request, FakeScheduler())
    (farm.directory(request) / "job_id").write_text("7.1-2:1\n")
    farm.storage.end_pending(request, Kind.CANCELLED, "cancelled")
    farm.look()
    options = {**farm.storage.get_request(request).options, "maker": ended}
    assert farm.storage.retry(request, options, failed=True) == 2
    farm.look()
    assert farm.errors(request)[0].endswith("ended before it was submitted")


# Workers are submitted again


class GridEngine:
    """Programs on the PATH: a qsub that counts, and a qstat that lists what is said to run.

    By its name, qstat finds whatever was submitted; by its number, what is said to run.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        last = head.bin / "last"
        count = f"n=$(($(cat '{last}' 2>/dev/null || echo 100) + 1)); echo $n >'{last}'"
        name = r"sed -n 's/^#\$ -N \(.*\)/<\1>/p' sheepdog_*.sh"
        self.program("qsub", f'{count}\necho "$n.1-2:1"\necho "$({name})$n" >>"{head.bin}/submitted"')
        one = 'echo "<JB_job_number>$n</JB_job_number><JB_owner>$(id -un)</JB_owner>"'
        self.program(
            "qstat",
            f"""case "$*" in *-j*) ;; *) exec cat '{head.bin}/listed.xml';; esac
n=$(sed -n "s/^<$3>//p" '{head.bin}/submitted' 2>/dev/null)
if [ -n "$n" ]; then {one}
elif n=$3 && grep -q "number>$n<" '{head.bin}/listed.xml'; then {one}
else echo "<unknown_jobs><ST_name>$3</ST_name></unknown_jobs>"
fi""",
        )
        self.program("qacct", "for n in 1 2; do echo ==; echo taskid $n; echo failed 0; echo exit_status 1; done")
        self.program("qdel", "true")
        self.list()

    def program(self, name: str, script: str) -> None:
        file = self.head.bin / name
        file.write_text(f"#!/bin/sh\necho {name} \"$@\" >>'{self.head.log}'\n{script}\n")
        file.chmod(0o755)

    def refuse(self, words: str, status: int = 1) -> None:
        self.program("qsub", f"echo '{words}' >&2; exit {status}")

    def list(self, *jobs: str) -> None:
        entries = "".join(
            f'<job_list state="running"><JB_job_number>{job}</JB_job_number><state>r</state><tasks>{element}</tasks>'
            "</job_list>"
            for job in jobs
            for element in "12"
        )
        text = f"<?xml version='1.0'?><job_info><queue_info>{entries}</queue_info></job_info>"
        (self.head.bin / "listed.xml").write_text(text)

    def ran(self, program: str) -> int:
        return sum(line.startswith(f"{program} ") for line in self.head.ran)


@pytest.fixture
def gridengine(head: Head, monkeypatch: pytest.MonkeyPatch) -> GridEngine:
    monkeypatch.setattr(submission, "PAUSE", 0.01)
    monkeypatch.setattr(submission, "PATIENCE", 0.0)
    return GridEngine(head)


@fault((35, 36), "all workers end before the tasks", promise="others are submitted, and go on; who waits reads so")
def test_workers_are_submitted_again(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None)
    farm.call(request, want=1)
    gridengine.list("7")
    farm.look()
    farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 0
    gridengine.list()
    for _ in range(3):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 1
    first, second = farm.storage.arrays(request)
    assert first.ended is not None
    assert (second.job, second.number, second.workers, second.ended) == ("101", 2, 2, None)
    secret = json.loads((Path(second.directory) / "secret.json").read_text())
    assert (secret["array"], secret["token"]) == (2, farm.storage.get_request(request).token)
    assert secret["urls"] == list(second.urls)
    assert all(url.endswith(":4000") for url in second.urls)
    assert "2 workers are submitted again (1 of 3 times in a row)" in farm.note(request)
    gridengine.list("101")
    assert farm.call(request, "new", "1", 2, want=2)["tasks"]
    for _ in range(3):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 1


@pytest.mark.parametrize("resubmissions", [0, 2])
@pytest.mark.slow
def test_workers_are_submitted_again_so_often_and_no_oftener(
    farm: Farm, gridengine: GridEngine, resubmissions: int
) -> None:
    request = farm.request("7", host=None, resubmissions=resubmissions)
    farm.call(request)
    for _ in range(20):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == resubmissions
    times = f" {resubmissions + 1} times in a row" if resubmissions else ""
    assert farm.errors(request)[0].startswith(f"not run: its workers have ended{times}; the last time the array job")
    assert str(farm.storage.arrays(request)[-1].directory) in farm.errors(request)[0]


def test_workers_that_were_of_use_for_long_start_the_count_anew(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None, resubmissions=1)
    farm.call(request)
    while gridengine.ran("qsub") < 1:
        farm.look(INTERVAL)
    farm.later(minutes=LASTING / 60 + 1)
    header = {"worker": "w2", "element": "1", "array": 2, "call": 1, "want": 0, "holding": []}
    call = Call(request, "exchange", {**header, "outcomes": [[1, 1, RESULT, 0.0]]}, [b"r", b""])
    assert exchange.handle(farm.writer.service, call).status == 200
    while not farm.errors(request):
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 2
    assert farm.storage.progress(request).done == 1


@fault(
    "bad node",
    "workers are to be on another host, and there is none",
    promise="they may be on any, if some were of use",
)
def test_if_there_is_no_other_host_any_will_do(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None)
    farm.call(request)
    live = farm.writer.service.live[request]
    live.hosts.refuse("node1", "it lacks something")
    count = (gridengine.head.bin / "qsub").read_text().partition("\n")[2]
    refuse = "if grep -q 'h=!(node1' sheepdog_*.sh; then echo 'error: no suitable queues' >&2; exit 1; fi"
    gridengine.program("qsub", f"{refuse}\n{count}")
    gridengine.list()
    while gridengine.ran("qsub") < 2:
        farm.look(INTERVAL)
    assert farm.storage.arrays(request)[-1].job == "101"
    assert "elsewhere than on node1" in farm.note(request)


@fault(42, "the scheduler is down when workers are to be submitted again", promise="that is tried on, and shown")
def test_a_scheduler_that_is_down_costs_no_submission(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None, resubmissions=1)
    farm.call(request)
    gridengine.refuse("error: commlib error: got select error (Connection refused)")
    while gridengine.ran("qsub") < 1:
        farm.look(INTERVAL)
    for _ in range(3):
        farm.look(INTERVAL)
    tries = gridengine.ran("qsub")
    assert "workers cannot be submitted again: qsub on this machine refused" in farm.note(request)
    for minutes in (1, 5):  # longer and longer pauses
        farm.later(minutes)
        farm.look(INTERVAL)
        assert gridengine.ran("qsub") > tries
        tries = gridengine.ran("qsub")
    assert farm.errors(request) == []
    GridEngine(gridengine.head)
    farm.later(60)
    farm.look(INTERVAL)
    assert farm.storage.arrays(request)[-1].job == "101"


@fault(41, "the scheduler refuses workers that are to be submitted again", promise="it is not asked for ever")
def test_a_scheduler_that_refuses_ends_the_request(farm: Farm, gridengine: GridEngine) -> None:
    request = farm.request("7", host=None, resubmissions=2)
    farm.call(request)
    gridengine.refuse("Unable to run job: your quota is used up")
    for minutes in range(60):
        farm.later(minutes)
        farm.look(INTERVAL)
    assert gridengine.ran("qsub") == 2
    assert (
        "the last time qsub on this machine refused the job: Unable to run job: your quota" in farm.errors(request)[0]
    )


def test_a_request_that_ended_while_its_workers_were_submitted(farm: Farm, gridengine: GridEngine) -> None:
    """They are taken away."""
    request = farm.request("7", host=None)
    farm.call(request)
    qsub = gridengine.head.bin / "qsub"
    qsub.write_text(qsub.read_text() + f"while [ ! -e '{gridengine.head.bin}/go' ]; do sleep 0.01; done\n")
    submitting = threading.Thread(target=lambda: [farm.look(INTERVAL) for _ in range(3)])
    farm.storage.db  # noqa: B018 (opened here; used by one thread at a time)
    submitting.start()
    until(lambda: gridengine.ran("qsub"), "it submits")
    with Storage(farm.storage.dbfile) as other:
        other.end_pending(request, Kind.CANCELLED, "cancelled by its user")
    (gridengine.head.bin / "go").touch()
    submitting.join()
    assert "qdel 101" in gridengine.head.ran


# The port has changed


@fault((19, "port taken"), "the server has moved to another port", promise="its workers' secret tells them where")
def test_workers_are_told_of_another_port(farm: Farm) -> None:
    request = farm.request("1", localhost="me")
    farm.put(request, FakeScheduler())
    secret = farm.directory(request) / "secret.json"
    farm.look()
    assert secret.read_text() == "{}"  # they know it
    farm.storage.set_settings(port=5000)
    farm.watcher(request).context.port = 0
    old = os.umask(0)
    try:
        farm.look()
    finally:
        os.umask(old)
    said = json.loads(secret.read_text())
    assert said["urls"] == ["https://me:5000"]
    assert (said["array"], said["certificate"]) == (1, "CERTIFICATE")
    assert said["token"] == farm.storage.get_request(request).token
    assert secret.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in secret.parent.iterdir()) == ["array_job", "secret.json"]
    assert farm.storage.arrays(request)[0].urls == ("https://me:5000",)
    secret.write_text("{}")
    farm.look()
    assert secret.read_text() == "{}"  # once is enough


def test_workers_are_told_as_soon_as_their_host_answers(farm: Farm) -> None:
    request = farm.request("1", localhost="me")
    fake = farm.put(request, FakeScheduler())
    farm.storage.set_settings(port=5000)
    fake.error = HostError("does not answer")
    farm.look()
    runs = fake.runs
    farm.look()
    assert fake.runs == runs  # not again at once
    fake.error = None
    farm.look(LONGEST)
    assert "https://me:5000" in (farm.directory(request) / "secret.json").read_text()


# This machine has another address


@fault(
    "another address",
    "this machine has another address than its workers were told",
    promise="their secrets tell the new one: of those that run, that wait, and that count as lost",
)
@pytest.mark.parametrize("said", [True, False])
def test_workers_are_told_of_another_address(farm: Farm, here: str, said: bool) -> None:
    request = farm.request("", localhost="192.0.2.1" if said else None)
    array = farm.array(request)
    farm.storage.set_urls(request, array.number, ["https://192.0.2.1:4000"])
    farm.storage.set_submitted(request, replace(array, job="1"))
    fake = farm.put(request, FakeScheduler())
    fake.error = HostError("the network is unreachable")
    farm.look()
    assert farm.storage.arrays(request)[0].urls == ("https://192.0.2.1:4000",)
    fake.error = None
    farm.look(AGAIN)
    url = f"https://{f'[{here}]' if ':' in here else here}:4000"
    assert json.loads((farm.directory(request) / "secret.json").read_text())["urls"] == [url]
    assert farm.storage.arrays(request)[0].urls == (url,)
    assert farm.node(request).failures == 0  # it answers, and is asked at once
    runs = fake.runs
    farm.look(HOME_SECONDS)
    assert fake.runs - runs <= 1  # to listen: nobody is told again


def test_a_name_is_told_as_it_is_written(farm: Farm) -> None:
    request = farm.request("1", localhost="Me.Invalid")
    farm.put(request, FakeScheduler())
    farm.storage.set_urls(request, 1, ["https://Me.Invalid:4000"])
    farm.look()
    assert (farm.directory(request) / "secret.json").read_text() == "{}"  # they know it


def test_workers_that_count_as_lost_are_told_too(farm: Farm, here: str) -> None:
    request = farm.request("7", localhost=here, resubmissions=0, tasks=3)
    farm.call(request, want=1)
    farm.put(request, FakeScheduler())
    farm.look()
    live = farm.writer.service.live[request]
    live.end_array(1, "nothing was heard of it")
    farm.storage.end_array(request, 1)
    farm.storage.set_settings(port=5000)
    farm.watcher(request).context.port = 0
    farm.look()
    assert ":5000" in (farm.directory(request) / "secret.json").read_text()
    [array] = farm.storage.arrays(request)
    assert array.ended
    assert array.urls[0].endswith(":5000")
    assert live.jobs.there == {}
    farm.directory(request).joinpath("secret.json").unlink()
    farm.directory(request).rename(farm.home / "gone")
    farm.storage.set_settings(port=6000)
    farm.watcher(request).context.port = 0
    farm.look()
    assert farm.storage.arrays(request)[0].urls[0].endswith(":6000")  # and nobody is in the way


def test_new_workers_are_told_the_address_that_this_machine_has_now(
    farm: Farm, gridengine: GridEngine, here: str
) -> None:
    request = farm.request("7", host=None, localhost="192.0.2.1")
    farm.call(request, want=1)
    gridengine.list()
    for _ in range(3):
        farm.look(INTERVAL)
    secret = json.loads((Path(farm.storage.arrays(request)[-1].directory) / "secret.json").read_text())
    assert secret["array"] == 2
    assert here in secret["urls"][0]
