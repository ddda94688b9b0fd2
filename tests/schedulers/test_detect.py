"""Which scheduler is chosen where none is said, and why: here, and on a host that is asked for its programs."""

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from sheepdog.config import Config
from sheepdog.errors import SchedulerError
from sheepdog.schedulers.detect import choose_scheduler


def nobody(programs: Collection[str]) -> set[str]:
    raise AssertionError("no host is to be asked")


NO_HOST = "no host is given, {}, and sbatch is not on PATH"


@pytest.mark.parametrize(
    ("config", "qsub", "environ", "scheduler", "reason"),
    [
        (Config(scheduler="local"), True, {"SGE_ROOT": "/sge"}, "local", "the configuration says so"),
        (Config(scheduler="local", host="fear"), False, {}, "local", "the configuration says so"),
        (Config(scheduler="gridengine"), False, {}, "gridengine", "the configuration says so"),
        (Config(), True, {"SGE_ROOT": "/sge"}, "gridengine", "qsub is on PATH and SGE_ROOT is set"),
        (Config(), True, {}, "local", NO_HOST.format("SGE_ROOT is not set")),
        (Config(), True, {"SGE_ROOT": ""}, "local", NO_HOST.format("SGE_ROOT is not set")),
        (Config(), False, {"SGE_ROOT": "/sge"}, "local", NO_HOST.format("qsub is not on PATH")),
    ],
)
def test_choose_scheduler(config: Config, qsub: bool, environ: dict[str, str], scheduler: str, reason: str) -> None:
    def which(program: str) -> str | None:
        return "/usr/bin/qsub" if qsub and program == "qsub" else None

    assert choose_scheduler(config, nobody, environ, which) == (scheduler, reason)


def test_grid_engine_comes_before_slurm(tmp_path: Path) -> None:
    """And where there are only Slurm's commands, there is no Slurm."""
    programs = {"sbatch": str(tmp_path / "bin" / "sbatch")}
    commands_only = choose_scheduler(Config(), nobody, {}, programs.get)
    assert commands_only[0] == "local"
    assert "qsub is not on PATH, and sbatch is on PATH, but no slurm.conf is found" in commands_only[1]
    conf = tmp_path / "etc" / "slurm.conf"
    conf.parent.mkdir()
    conf.touch()
    slurm = "slurm", f"sbatch is on PATH with {conf}, and qsub is not on PATH"
    assert choose_scheduler(Config(), nobody, {}, programs.get) == slurm
    assert choose_scheduler(Config(), nobody, {"SLURM_CONF": str(conf)}, {"sbatch": "/usr/bin/sbatch"}.get) == slurm
    programs["qsub"] = "/usr/bin/qsub"
    assert choose_scheduler(Config(), nobody, {}, programs.get)[0] == "slurm"
    assert choose_scheduler(Config(), nobody, {"SGE_ROOT": "/sge"}, programs.get)[0] == "gridengine"


@pytest.mark.parametrize(
    ("programs", "scheduler", "reason"),
    [
        ({"qsub", "qconf"}, "gridengine", "fear has qsub"),
        ({"qsub", "qconf", "sbatch"}, "gridengine", "fear has qsub"),
        ({"qsub"}, "gridengine", "fear has qsub"),
        ({"sbatch"}, "slurm", "fear has sbatch and no qsub"),
        ({"qsub", "sbatch"}, "slurm", "fear has sbatch and no qconf"),
    ],
)
def test_a_host_says_what_it_has(programs: set[str], scheduler: str, reason: str) -> None:
    """Slurm comes with a qsub of its own."""
    asked: list[str] = []

    def on_host(wanted: Collection[str]) -> set[str]:
        asked.extend(wanted)
        return programs

    assert choose_scheduler(Config(host="fear"), on_host) == (scheduler, reason)
    assert asked == ["qsub", "qconf", "sbatch"]


def test_a_host_without_a_scheduler() -> None:
    with pytest.raises(SchedulerError, match=r"no qsub on fear, and no sbatch\. .*`ssh fear squeue` works"):
        choose_scheduler(Config(host="fear"), lambda _: ())


def test_choose_scheduler_looks_at_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SGE_ROOT", "/sge")
    assert choose_scheduler(Config(), nobody)[0] == "local"
    qsub = tmp_path / "qsub"
    qsub.write_text("#!/bin/sh\n")
    qsub.chmod(0o755)
    assert choose_scheduler(Config(), nobody)[0] == "gridengine"


def test_what_is_named_is_not_looked_for() -> None:
    program = (
        "import sys; from sheepdog.config import Config; from sheepdog.schedulers.detect import choose_scheduler\n"
        "print(choose_scheduler(Config(scheduler='slurm'), None)[0])\n"
        "print([m for m in ('batch', 'gridengine', 'slurm', 'drmaa') if 'sheepdog.schedulers.' + m in sys.modules])"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-S", "-c", program], env=environ, capture_output=True, check=True)
    assert output.stdout.split() == [b"slurm", b"[]"]
