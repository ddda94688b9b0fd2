"""What is written for the cluster: the files, and the scripts when they are run by a real shell."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sheepdog.deployment.last_words import explains, telling
from sheepdog.schedulers import job_file
from sheepdog.schedulers.archives import cloudpickle_archive, worker_archive
from sheepdog.schedulers.job_file import Job, secret, submit_script, worker_files
from sheepdog.schedulers.local import local_script
from tests.faults import fault
from tests.schedulers.scripts import PROGRAM, job, run
from tests.waiting import until

# The job file


def test_the_options_come_first_one_a_line() -> None:
    lines = job_file.job_file(job(), ["-q all.q", "-t 1-3"], "#$", "SGE_TASK_ID").splitlines()
    assert lines[0].startswith("#!")
    assert lines[1:3] == ["#$ -q all.q", "#$ -t 1-3"]
    assert not any(line.startswith("#$") for line in lines[3:])


@pytest.mark.parametrize("directory", [".sheepdog/herd", "absolute"])
@pytest.mark.parametrize("python", ["{python}", "'{python}' -I -S"])
def test_the_job_file_starts_the_worker(tmp_path: Path, directory: str, python: str) -> None:
    home = tmp_path / "a home"
    there = tmp_path / directory if directory == "absolute" else home / directory
    there.mkdir(parents=True)
    (there / "client.pyz").write_text(PROGRAM)
    made = job(python.format(python=sys.executable), str(there) if directory == "absolute" else directory)
    done = run(job_file.job_file(made, [], "#$", "ELEMENT"), tmp_path, HOME=str(home), ELEMENT="7")
    assert (done.stdout, done.stderr, done.returncode) == ("said\n", "", 0)
    ran = json.loads((there / "ran.7").read_text())
    assert ran["directory"] == str(there)
    assert ran["flags"] == int("-I" in python)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_lines_of_setup_run_before_the_worker(tmp_path: Path, shell: str) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "client.pyz").write_text(PROGRAM)
    lines = ("told='it is said'  # by its user", '[[ a < b ]] && module() { export TOLD="$told"; }', "module")
    made = job_file.job_file(job(sys.executable, str(there), lines), [], "#$", "ELEMENT")
    (tmp_path / "spooled").write_text(made)  # schedulers keep the job file elsewhere
    subprocess.run([shell, "spooled"], cwd=tmp_path, env={**os.environ, "ELEMENT": "7"}, check=True)
    assert json.loads((there / "ran.7").read_text())["told"] == "it is said"


def test_a_line_of_setup_that_fails_ends_the_worker_and_says_so(tmp_path: Path) -> None:
    lines = ("true", "module load 'nothing'", "touch never")
    (tmp_path / "spooled").write_text(job_file.job_file(job(setup=lines), [], "#$", "ELEMENT"))
    done = subprocess.run(["sh", "spooled"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"sheepdog: on {socket.gethostname()} this line of setup failed: module load 'nothing'\n" in done.stderr
    assert not (tmp_path / "never").exists()


@fault("last words", "a line of setup ends the shell, with whatever status", promise="the worker's last words name it")
@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    "line", ["exit 0", '[ -e /nothing ] || exit 3 # it\'s "not" $HERE', "set -u; $NOTHING", "if true"]
)
def test_a_line_of_setup_that_ends_the_shell_is_named(tmp_path: Path, shell: str, line: str) -> None:
    lines = ("trap 'echo bye' EXIT", "true", line)
    (tmp_path / "spooled").write_text(job_file.job_file(job(setup=lines), [], "#$", "ELEMENT"))
    done = subprocess.run([shell, "spooled"], cwd=tmp_path, capture_output=True, text=True)
    words = f"sheepdog: on {socket.gethostname()} the shell ended in this line of setup: {line}"
    assert telling([done.stdout, done.stderr]) == words
    assert explains(words)


@pytest.mark.parametrize(("request_id", "file"), [(7, "sheepdog_007"), (12, "sheepdog_012"), (4711, "sheepdog_4711")])
def test_a_job_file_is_named_after_its_request(request_id: int, file: str) -> None:
    assert Job(request_id, "n", "d", "python3", 1).file.rpartition(".")[0] == file


@fault(51, "somebody who reads job files, scripts and arguments", promise="no secret is in them")
def test_no_secret_is_in_the_job_file_or_a_script() -> None:
    token = "0123456789abcdef"
    files = {**worker_files(), "secret.json": secret(12, token, ["https://here:1"], "CERTIFICATE", patience=5.0)}
    texts = [job_file.job_file(job(), [], "#$", "X").encode(), local_script(job(), "/"), submit_script("qsub", "qstat")]
    assert not any(token.encode() in text for text in [*texts, files["client.pyz"], files["cloudpickle.zip"]])
    assert json.loads(files["secret.json"]) == {
        "request": 12,
        "token": token,
        "urls": ["https://here:1"],
        "certificate": "CERTIFICATE",
        "path": ["cloudpickle.zip"],
        "patience": 5.0,
    }


def test_what_travels_with_each_job() -> None:
    assert worker_files() == {"client.pyz": worker_archive(), "cloudpickle.zip": cloudpickle_archive()}


# The script that submits


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A job's directory, with a submit command that counts how often it is run."""
    directory = tmp_path / "job's directory"
    directory.mkdir()
    return directory


SUBMIT = "sh -c 'echo x >>../submissions; echo 12.1-3:1'"
FIND_NONE = "true"


def submissions(there: Path) -> int:
    file = there.parent / "submissions"
    return len(file.read_text().split()) if file.exists() else 0


@fault(40, "a submission that is tried again", promise="one array job")
def test_a_job_is_submitted_once_however_often_the_script_is_run(there: Path) -> None:
    for _ in range(3):
        done = run(submit_script(SUBMIT, FIND_NONE), there)
        assert done.stdout == f"sheepdog:job 12.1-3:1\nsheepdog:directory {there}\n"
        assert (done.stderr, done.returncode) == ("", 0)
    assert submissions(there) == 1


@fault(40, "the connection breaks right after the submission", promise="the job is found, not submitted again")
def test_a_job_that_was_submitted_before_the_answer_was_written_is_found(there: Path) -> None:
    (there / "attempted").mkdir()
    done = run(submit_script(SUBMIT, "echo 12"), there)
    assert done.stdout.startswith("sheepdog:job 12\n")
    assert submissions(there) == 0


@fault(40, "a submission that is tried again while the first still runs", promise="it waits for the first one's answer")
@pytest.mark.slow
def test_a_second_run_waits_for_the_answer_of_the_first(there: Path) -> None:
    script = submit_script(f"sh -c 'until [ -e go ]; do sleep 0.02; done; {SUBMIT[7:-1]}'", FIND_NONE)
    command = ["sh", "-c", script.decode()]
    runs = []
    try:
        runs.append(subprocess.Popen(command, cwd=there, stdout=subprocess.PIPE, text=True))
        until((there / "attempted").exists, "the first is at it")
        runs.append(subprocess.Popen(command, cwd=there, stdout=subprocess.PIPE, text=True))
        time.sleep(0.2)  # the second has looked once; whatever it has done by now, the result is the same
        (there / "go").touch()
        assert {process.communicate()[0].splitlines()[0] for process in runs} == {"sheepdog:job 12.1-3:1"}
    finally:
        (there / "go").touch()
        for process in runs:
            process.wait()
    assert submissions(there) == 1


@fault(
    "wrappers", "a qsub that ends with its job, as an sge_request with -sync y has it", promise="nobody waits for it"
)
def test_a_submission_that_does_not_end(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_file, "LOOK", 0.1)
    submit = "exec sh -c 'echo $$ >../pid; echo \"12.1-3:1\"; until [ -e go ]; do sleep 0.02; done'"
    done = run(submit_script(submit, "sleep 0.2; echo 12"), there)
    assert done.stdout.startswith("sheepdog:job 12\n")
    assert not Path(f"/proc/{(there.parent / 'pid').read_text().strip()}").exists()


@fault(41, "a submission that the scheduler refuses", promise="an error with its words; nothing is left")
def test_a_scheduler_that_refuses_is_quoted_and_nothing_is_left(there: Path) -> None:
    (there / "secret.json").write_text("secret")
    done = run(submit_script("sh -c 'echo out; echo no such queue >&2; exit 25'", FIND_NONE), there)
    assert done.returncode == 25
    assert "no such queue" in done.stderr
    assert "out" in done.stderr
    assert done.stdout == "sheepdog:refused 25\n"
    assert not there.exists()
