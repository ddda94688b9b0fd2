"""The directory of an array job: its scripts, run by the shells of this machine."""

import io
import os
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sheepdog.deployment import LocalHost, job_directory
from sheepdog.deployment.folders import KINDS
from sheepdog.deployment.upload import STORE
from sheepdog.errors import CommandFailed, HostError
from sheepdog.schedulers.gridengine import parse_qsub
from sheepdog.schedulers.slurm import parse_sbatch
from sheepdog.values.model import ArrayJob
from tests.faults import fault

NAMES = ["a b", "it's", "$HOME", 'a"b', "-rf"]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory below the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = tmp_path / ".sheepdog" / "herd"
    directory.mkdir(parents=True)
    return directory


class Shell:
    """A Host whose commands go through a login shell, as over ssh."""

    def __init__(self, shell: str) -> None:
        self.name = shell
        self.shell = shell

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        import shlex

        return LocalHost().run([self.shell, "-c", shlex.join(command)], input, timeout)


@pytest.fixture(params=["local", "sh", "bash", "csh"])
def host(request: pytest.FixtureRequest) -> LocalHost | Shell:
    if request.param == "local":
        return LocalHost()
    if not shutil.which(request.param):
        pytest.skip(f"there is no {request.param} on this machine")
    return Shell(request.param)


PARSE = {"12.1-4:1\n": parse_qsub, "Welcome\n12\n": parse_sbatch, "12;test\n": parse_sbatch}


def array(directory: str | Path) -> ArrayJob:
    return ArrayJob(1, "herd", str(directory), 2)


@pytest.mark.parametrize("directory", [".sheepdog/herd", "absolute"])
@pytest.mark.parametrize(
    ("printed", "job"),
    [*dict.fromkeys(PARSE, "12").items(), ("4711 4712 4713\n", "4711 4712 4713"), ("12.[1-4]\n", "12.[1-4]")],
)
def test_a_job_whose_submission_nobody_saw_to_its_end(
    there: Path, host: LocalHost | Shell, directory: str, printed: str, job: str
) -> None:
    (there / "job_id").write_text(printed)
    found = job_directory.find(
        host, array(there if directory == "absolute" else directory), PARSE.get(printed, str.strip)
    )
    assert found == ArrayJob(1, "herd", str(there), 2, job=job)


def test_a_job_that_was_not_submitted(there: Path, host: LocalHost | Shell) -> None:
    assert job_directory.find(host, array(there), str.strip) is None
    (there / "job_id.new").write_text("12\n")
    assert job_directory.find(host, array(there), str.strip) is None
    (there / "job_id").touch()
    assert job_directory.find(host, array(there), str.strip) is None
    assert job_directory.find(host, array("nowhere"), str.strip) is None


def test_a_host_that_does_not_answer_is_no_answer() -> None:
    class Silent:
        name = "silent"

        def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
            raise HostError("does not answer")

    with pytest.raises(HostError):
        job_directory.find(Silent(), array("herd"), str.strip)


def test_a_file_is_replaced_and_is_its_owners_alone(there: Path, host: LocalHost | Shell) -> None:
    file = there / "secret.json"
    file.write_text("old")
    file.chmod(0o644)
    before = file.stat().st_ino
    old = os.umask(0)
    try:
        job_directory.rewrite(host, ".sheepdog/herd", "secret.json", b"new \0\xff")
    finally:
        os.umask(old)
    assert file.read_bytes() == b"new \0\xff"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_ino != before  # who reads it reads the one or the other
    with pytest.raises(CommandFailed):
        job_directory.rewrite(host, "nowhere", "secret.json", b"")


@fault(46, "outcomes lie in files on the host", promise="they are listed, fetched and removed; nothing else is touched")
def test_the_files_of_outcomes(there: Path, host: LocalHost | Shell) -> None:
    assert job_directory.spooled(host, str(there)) == []
    spool = there / "spool"
    spool.mkdir()
    assert job_directory.spooled(host, str(there)) == []
    content = bytes(range(256)) * 1000
    for name in ("0a1f-1", "0a1f-12", *NAMES, "0a1f-2.new", "XYZ-1"):
        (spool / name).write_bytes(content)
    names = job_directory.spooled(host, str(there))
    assert sorted(names) == ["0a1f-1", "0a1f-12"]
    file = io.BytesIO()
    job_directory.fetch(host, str(there), "0a1f-12", file)
    assert file.getvalue() == content
    job_directory.discard(host, str(there), names)
    assert {file.name for file in spool.iterdir()} == {*NAMES, "0a1f-2.new", "XYZ-1"}
    with pytest.raises(CommandFailed):
        job_directory.spooled(host, "nowhere")


@pytest.mark.parametrize("size", [0, 1, 131071, 131072, 131073, 400000])
def test_a_file_is_fetched_in_pieces(
    there: Path, host: LocalHost | Shell, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_directory, "PIECE", 131072)
    content = os.urandom(size)
    (there / "spool").mkdir()
    (there / "spool" / "ab-1").write_bytes(content)
    file = io.BytesIO()
    job_directory.fetch(host, str(there), "ab-1", file)
    assert file.getvalue() == content
    with pytest.raises(CommandFailed):
        job_directory.fetch(host, str(there), "ab-2", file)


@pytest.mark.parametrize("name", NAMES)
def test_a_directory_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    array = f"{name}_012_0123abcd"
    there = tmp_path / "x" / name / array
    there.mkdir(parents=True)
    job_directory.rewrite(LocalHost(), f"x/{name}/{array}", "secret.json", b"secret")
    assert (there / "secret.json").read_bytes() == b"secret"
    job_directory.close(LocalHost(), f"~/x/{name}", [array])
    assert list(there.iterdir()) == []
    (there / job_directory.MARK).write_text(f"{array}\n")
    job_directory.remove(LocalHost(), f"x/{name}", [array])
    assert not there.exists()


JOBS = ["herd_001_00000001", "herd_001_00000002", "herd_1234_00000003"]


@pytest.fixture
def jobs(there: Path) -> list[Path]:
    """The directories of array jobs."""
    made = [there.with_name(name) for name in JOBS]
    for directory in made:
        directory.mkdir()
        (directory / job_directory.MARK).write_text(f"{directory.name}\n")
        for name in ("secret.json", "worker.1.log"):
            (directory / name).touch()
    return made


@fault(51, "the request has ended", promise="its token is taken away from the host")
@pytest.mark.parametrize("place", [".sheepdog", "~/.sheepdog/", "absolute"])
def test_close_takes_the_secrets_and_nothing_else(jobs: list[Path], host: LocalHost | Shell, place: str) -> None:
    place = str(jobs[0].parent) if place == "absolute" else place
    job_directory.close(host, place, [*JOBS[:2], "nowhere_001_00000000"])
    assert [sorted(file.name for file in directory.iterdir()) for directory in jobs] == [
        [job_directory.MARK, "worker.1.log"],
        [job_directory.MARK, "worker.1.log"],
        [job_directory.MARK, "secret.json", "worker.1.log"],
    ]
    job_directory.close(host, "nowhere", JOBS)


@fault(
    "other people",
    "a directory is to be removed that is none of an array job",
    promise="only what lies in ssh_dir under an array job's name, with our mark of that name, is removed",
)
def test_only_the_directories_of_array_jobs_are_removed(jobs: list[Path], host: LocalHost | Shell) -> None:
    gone, unmarked, marked_otherwise = jobs
    (unmarked / job_directory.MARK).unlink()
    (marked_otherwise / job_directory.MARK).write_text(f"{JOBS[0]}\n")
    home = gone.parent.parent
    link = gone.with_name("herd_001_00000004")
    link.symlink_to(home)
    (home / job_directory.MARK).write_text(f"{link.name}\n")
    others = [
        ".",
        "..",
        "",
        "../../x",
        "herd",
        str(home),
        f"../{home.name}_001_00000001",
        "-rf",
        "$(touch x)_001_00000000",
    ]
    job_directory.remove(host, ".sheepdog", [*others, *JOBS, link.name])
    assert sorted(path.name for path in gone.parent.iterdir()) == ["herd", JOBS[1], link.name, JOBS[2]]
    assert sorted(path.name for path in home.iterdir()) == [".sheepdog", job_directory.MARK]
    job_directory.remove(host, "nowhere", JOBS)


@fault(
    "files left",
    "an array job some of whose tasks failed is over",
    promise="what its workers said stays; what is empty or needless goes, and what all of them say",
)
def test_what_tells_of_a_failure_stays(jobs: list[Path], host: LocalHost | Shell) -> None:
    one, other, unmarked = jobs
    (unmarked / job_directory.MARK).unlink()
    for directory in jobs:
        for name in ("client.pyz", "cloudpickle.zip", "submit.sh", "errors", "herd.o12.2"):
            (directory / name).touch()
        said = "2026-11-27 18:30:28 worker 0a1b2c3d: {}\n".format
        on, ends = said("on node1, Python 3.6.8, request 1"), said("ends: nothing left to do")
        (directory / "herd.o12.3").write_text(on + ends)
        (directory / "worker.1.log").write_text(on)
        (directory / "herd.o12.4").write_text(on + "Segmentation fault\n" + ends)
        for name in ("job_id", "keep", "sheepdog_001.sh", "herd.o12.1"):
            (directory / name).write_text("x")
        for name in ("attempted", "spool"):
            (directory / name).mkdir()
    (other / "spool" / "ab-1").write_text("outcome")
    job_directory.tidy(host, ".sheepdog", [*JOBS, "nowhere_001_00000000"])
    left = ["array_job", "herd.o12.1", "herd.o12.4", "job_id", "keep", "sheepdog_001.sh"]
    assert sorted(path.name for path in one.iterdir()) == left
    assert sorted(path.name for path in other.iterdir()) == [*left, "spool"]
    assert len([*unmarked.iterdir()]) == 15


DAY = 86400.0


def age(directory: Path, days: float) -> None:
    """Let nothing in a directory have changed for so long."""
    then = time.time() - days * DAY
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (then, then))


@fault(
    "files left",
    "directories of array jobs are older than they are to be kept, also when their database is no more",
    promise="they go when the host is next cleared up; those that may be in use stay",
)
def test_what_is_too_old_goes(there: Path, host: LocalHost | Shell) -> None:
    def make(number: int, days: float, *names: str, keep: str = "") -> Path:
        directory = there.with_name(f"herd_001_{number:08x}")
        directory.mkdir()
        (directory / job_directory.MARK).write_text(f"{directory.name}\n")
        for name in names:
            (directory / name).touch()
        if keep:
            (directory / job_directory.KEEP).write_text(keep)
        age(directory, days)
        return directory

    gone = [make(1, 31), make(2, 2, keep="1440\n"), make(3, 366, "secret.json"), make(4, 31, keep="odd $(touch x)")]
    stay = [make(11, 29), make(12, 31, keep="129600\n"), make(13, 364, "secret.json"), make(14, 31, "herd.o1.1")]
    (stay[3] / "herd.o1.1").write_text("words of today")
    unmarked, marked_otherwise, other = make(21, 99), make(22, 99), there.with_name("data_2024_0123456")
    (unmarked / job_directory.MARK).unlink()
    (marked_otherwise / job_directory.MARK).write_text(JOBS[0])
    other.mkdir()
    (other / job_directory.MARK).write_text(f"{other.name}\n")
    link = there.with_name("herd_001_00000031")
    link.symlink_to(stay[0])
    somebodys = make(23, 99)
    if os.getuid() == 0:
        os.chown(somebodys, 1234, 1234)
        stay.append(somebodys)
    for directory in (unmarked, marked_otherwise, other, somebodys):
        age(directory, 99)
    job_directory.sweep(host, ".sheepdog")
    assert [directory for directory in gone if directory.exists()] == []
    assert all(directory.exists() for directory in (*stay, unmarked, marked_otherwise, other, link))
    assert not [*there.parent.rglob("x"), *there.parent.parent.glob("x")]
    job_directory.sweep(host, "nowhere")


@fault("files left", "archives of earlier versions lie there", promise="they go after a month, but never while used")
def test_archives_that_no_job_needs_go(there: Path, host: LocalHost | Shell) -> None:
    store = there.parent / STORE
    store.mkdir()
    for name in ("old", "new", "used"):
        (store / name).write_text(name)
    os.link(store / "used", there / "client.pyz")
    age(store, 31)
    os.utime(store / "new")
    job_directory.sweep(host, ".sheepdog")
    assert sorted(path.name for path in store.iterdir()) == ["new", "used"]


@fault("files left", "folders that nobody needs any more, or half of one", promise="they go when they are old")
def test_folders_that_nobody_needs_go(there: Path, host: LocalHost | Shell) -> None:
    half = f"{'a' * 64}.{'0' * 16}"
    days = {"bundles/old": 31, "bundles/new": 29, "pythons/old": 366, "pythons/new": 364, "packages/any": 9999}
    days |= {f"{kind}/{half}": 2 for kind in KINDS}
    for name, age_of in days.items():
        (there.parent / name).mkdir(parents=True)
        age(there.parent / name, age_of)
    job_directory.sweep(host, ".sheepdog")
    left = sorted(f"{kind}/{path.name}" for kind in KINDS for path in (there.parent / kind).iterdir())
    assert left == ["bundles/new", "packages/any", "pythons/new"]


@fault("files left", "a directory cannot be removed yet", promise="it is an error, and it can be removed later")
def test_what_cannot_be_removed_keeps_its_mark(jobs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    programs = jobs[0].parent.parent / "bin"
    programs.mkdir()
    path = os.environ["PATH"]
    fake = programs / "rm"
    fake.write_text('#!/bin/sh\n/bin/rm -f "$2"/*; exit 1\n')  # NFS leaves .nfs files of what is open
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{path}")
    with pytest.raises(CommandFailed):
        job_directory.remove(LocalHost(), ".sheepdog", [JOBS[0]])
    assert [path.name for path in jobs[0].iterdir()] == [job_directory.MARK]
    monkeypatch.setenv("PATH", path)
    job_directory.remove(LocalHost(), ".sheepdog", [JOBS[0]])
    assert not jobs[0].exists()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, ""),
        ({"herd.o12.1": "one\n\n", "herd.e12.1": "two\n"}, "two"),
        ({"herd.o12.1": "one\n\n", "herd.e12.1": "\n"}, "one"),
        ({"worker.1.log": "x\ny\n"}, "y"),
        ({"worker.1.log": "x" * 9999}, "x" * 500),
        ({"secret.json": "token"}, ""),
    ],
)
def test_last_words(tmp_path: Path, files: dict[str, str], said: str) -> None:
    there = tmp_path / "the job's"
    there.mkdir()
    for name, text in files.items():
        (there / name).write_text(text)
    assert job_directory.last_words(LocalHost(), str(there)) == said
    assert job_directory.last_words(LocalHost(), str(tmp_path / "nothing")) == ""


def test_the_hosts_on_which_workers_could_not_start(there: Path, host: LocalHost | Shell) -> None:
    assert job_directory.fallen(host, str(there)) == []
    absent = "sheepdog: on node1 there is no /opt/python3\n"
    (there / "herd.e7.1").write_text(absent)
    (there / "herd.e7.2").write_text(f"Welcome\n{absent}")
    (there / "herd.o7.3").write_text("sheepdog: on node2.cluster this line of setup failed: module load wool\n")
    assert job_directory.fallen(host, str(there)) == ["node1", "node2.cluster"]
    assert job_directory.fallen(host, str(there / "nothing")) == []
