"""DRMAA: what is asked of its library, and what its library really said; the parts that need none of it."""

import sys
from pathlib import Path

import pytest

import sheepdog
from sheepdog.config import Config
from sheepdog.config.registry import BATCH_SYSTEMS
from sheepdog.deployment import LocalHost
from sheepdog.errors import SchedulerError, TooManyWorkers
from sheepdog.schedulers import make_scheduler
from sheepdog.schedulers.archives import drmaa_archive
from sheepdog.schedulers.drmaa import DRMAAScheduler, attributes, is_grid_engine, parse_states
from sheepdog.schedulers.job_file import Job
from sheepdog.schedulers.session import find_library, ids_of, restore, word_of
from sheepdog.schedulers.site import Site
from sheepdog.values.model import JobStatus

CAPTURED = Path(__file__).parent / "captured" / "drmaa"
JOB = Job(12, "herd_012_ab", ".sheepdog/herd_012_ab", "python3", 3)
GRID_ENGINE = Site(system="SGE 8.1.9")
SCRIPT = """\
#!/bin/sh
#DRMAA nativeSpecification -P flock
#DRMAA nativeSpecification -q long
#DRMAA nativeSpecification -pe smp 4
#DRMAA nativeSpecification -l h_rt=28800
#DRMAA nativeSpecification -notify
#DRMAA nativeSpecification -r y
#DRMAA workingDirectory $drmaa_hd_ph$/.sheepdog
#DRMAA outputPath :$drmaa_hd_ph$/.sheepdog/herd_012_ab/herd_012_ab.o$drmaa_incr_ph$
#DRMAA joinFiles y
#DRMAA remoteCommand /bin/sh
#DRMAA args -c 'exec /bin/sh "$HOME"/.sheepdog/herd_012_ab/sheepdog_012.sh'
#DRMAA jobName herd_012_ab
"""


def test_each_element_has_its_state() -> None:
    system, found = parse_states((CAPTURED / "states.txt").read_bytes())
    assert system == "SGE 8.1.9"
    array, held = (job for job, status in found.items() if not status.gone)
    assert found[array] == JobStatus(3, frozenset("12456789"))
    assert found[held] == JobStatus(1, held=True)


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["user_suspended", "undetermined"], JobStatus(running=frozenset("12"))),
        (["queued_active", "system_on_hold"], JobStatus(2, held=True)),
        (["done", "failed", "gone"], JobStatus()),
        (["running", "failed"], JobStatus(running=frozenset("1"))),
    ],
)
def test_what_states_mean(states: list[str], status: JobStatus) -> None:
    lines = "".join(f"7.[1-2] {number} {state}\n" for number, state in enumerate(states, 1))
    assert parse_states(f"LSF 10\n{lines}".encode()) == ("LSF 10", {"7.[1-2]": status})


@pytest.mark.parametrize(
    ("ids", "word"),
    [
        (["12.1", "12.2", "12.3"], "12.[1-3]"),
        (["12_1"], "12_[1-1]"),
        (["12[9].head-1", "12[10].head-1"], "12[[9-10]].head-1"),
        (["head2.41.0", "head2.42.0"], "head2.[41-42].0"),
        (["12", "17"], "12,17"),
    ],
)
def test_the_ids_of_a_job_are_one_word(ids: list[str], word: str) -> None:
    assert word_of(ids) == word
    assert ids_of(word) == ids


def test_the_job_file() -> None:
    config = Config(queue="long", cpus=4, time="8h", ge_opts=("-P flock",))
    script = DRMAAScheduler().files(JOB, config, GRID_ENGINE)["sheepdog_012.sh"].decode()
    assert script.startswith(SCRIPT)


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"ge_opts": ["-wd /data"]}, "workingDirectory"),
        ({"ge_opts": ["-o /data/"]}, "outputPath"),
    ],
)
def test_what_the_user_says_stands(options: dict[str, list[str]], absent: str) -> None:
    """DRMAA's own attributes would win."""
    lines = list(attributes(JOB, Config(**options), GRID_ENGINE))  # type: ignore[arg-type]
    assert f"nativeSpecification {options['ge_opts'][0]}" in lines
    assert not [line for line in lines if line.startswith(absent)]


def test_directories_elsewhere() -> None:
    job = Job(12, "herd", "/data/dogs/herd", "python3", 3)
    lines = list(attributes(job, Config(ssh_dir="/data/dogs"), GRID_ENGINE))
    assert "workingDirectory /data/dogs" in lines
    assert "args -c 'exec /bin/sh /data/dogs/herd/sheepdog_012.sh'" in lines


def test_resources_of_another_batch_system() -> None:
    """Nobody here knows its options; what the user says goes there as it is."""
    site = Site(system="LSF 10.1")
    with pytest.raises(
        SchedulerError, match=r"LSF 10\.1; only of Grid Engine .* cpus, memory by DRMAA. Say it in ge_opts"
    ):
        list(attributes(JOB, Config(cpus=2, memory="1G"), site))
    lines = list(attributes(JOB, Config(ge_opts=("-R span[hosts=1]",)), site))
    assert [line for line in lines if line.startswith("native")] == ["nativeSpecification -R span[hosts=1]"]


@pytest.mark.parametrize(
    ("system", "is_one"),
    [
        *[(name, True) for name in ("SGE 8.1.9", "GE 6.2u5", "UGE 8.6.4", "OGS/GE 2011.11", "Univa Grid Engine", "")],
        *[(name, False) for name in ("SLURM 22.05", "PBS Pro", "Torque", "LSF", "Condor")],
    ],
)
def test_which_batch_system_it_is(system: str, is_one: bool) -> None:
    assert is_grid_engine(system) == is_one


def test_a_job_of_too_many_elements() -> None:
    words = "code 17: job rejected: you tried to submit a job with more than 75000 tasks"
    error = DRMAAScheduler().refused(LocalHost(), JOB, words, 1)
    assert isinstance(error, TooManyWorkers)
    assert error.limit == 75000


# The library


def test_where_the_library_is(tmp_path: Path) -> None:
    file = tmp_path / "lib" / "lx-amd64" / "libdrmaa.so.1.0"
    file.parent.mkdir(parents=True)
    file.touch()
    assert find_library({"SGE_ROOT": str(tmp_path)}) == str(file)
    assert find_library({"SGE_ROOT": str(tmp_path), "DRMAA_LIBRARY_PATH": "/there"}) == "/there"


@pytest.mark.parametrize("before", ["", "/lib/other.so"])
def test_jobs_do_not_inherit_how_it_is_loaded(before: str) -> None:
    environ = {"SHEEPDOG_DRMAA": before, "LD_PRELOAD": f"/lib/libdrmaa.so {before}", "HOME": "/home"}
    restore(environ)
    assert environ == {"HOME": "/home", **({"LD_PRELOAD": before} if before else {})}


def test_without_the_library_or_a_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is submitted; the error says what to set, and where."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRMAA_LIBRARY_PATH", "/nonexistent/libdrmaa.so")
    advice = r"no file /nonexistent/libdrmaa\.so.*export DRMAA_LIBRARY_PATH=.*`echo \$DRMAA_LIBRARY_PATH` shows"
    with pytest.raises(SchedulerError, match=advice):
        sheepdog.job_script({"scheduler": "drmaa"})
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("sh", "mktemp", "cat", "rm"):
        (bare / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(bare))
    with pytest.raises(
        SchedulerError, match=r"cannot be used on this machine: .*python3.*not found.*It takes python3 there"
    ):
        DRMAAScheduler().status(LocalHost(), ["7.[1-2]"])


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for and not imported: to import it is to load the library."""
    assert "drmaa" not in sys.modules
    assert b"drmaa/session.py" in (drmaa_archive() or b"")
    assert "drmaa" not in sys.modules
    packages = [path for path in sys.path if not (Path(path) / "drmaa").exists()]
    monkeypatch.setattr(sys, "path", packages)
    with pytest.raises(SchedulerError, match=r"no package drmaa here: pip install drmaa"):
        sheepdog.job_script({"scheduler": "drmaa"})


# All schedulers


@pytest.mark.parametrize("name", [*BATCH_SYSTEMS, "local"])
def test_a_scheduler_has_the_name_by_which_it_is_made(name: str) -> None:
    assert make_scheduler(name).name == name
