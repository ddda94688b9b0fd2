"""The job file that can be seen without submitting it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import sheepdog
from sheepdog.config import Config
from sheepdog.deployment import LocalHost
from sheepdog.errors import ConfigError, HostError
from sheepdog.schedulers.detect import programs_on

SLURM = """\
#!/bin/sh
#SBATCH --account=flock
#SBATCH --output=%x.o%A.%a
#SBATCH --open-mode=append
#SBATCH --partition=long
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --mem=16512M
#SBATCH --time=480
#SBATCH --requeue
#SBATCH --job-name=lamb_001_00000000
#SBATCH --array=1-3
"""
GRID_ENGINE = """\
#!/bin/sh
#$ -P flock
#$ -wd $HOME/.sheepdog
#$ -o $HOME/.sheepdog/lamb_001_00000000/
#$ -j y
#$ -q long
#$ -pe smp 4
#$ -l h_rt=28800
#$ -notify
#$ -r y
#$ -S /bin/sh
#$ -N lamb_001_00000000
#$ -t 1-3
"""
COMMON = {"host": "nowhere.invalid", "name": "lamb", "queue": "long", "cpus": 4, "time": "8h"}


@pytest.fixture(autouse=True)
def nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert os.listdir(tmp_path) == []


def test_the_job_file_for_slurm() -> None:
    """Nobody is asked."""
    config = {**COMMON, "scheduler": "slurm", "memory": "16G", "gpus": 1, "slurm_opts": ["--account=flock"]}
    script = sheepdog.job_script(config, 3)
    assert script.startswith(SLURM)
    assert '\ncd "$HOME/.sheepdog" || {' in script
    assert script.endswith('exec /usr/bin/python3 "$here/client.pyz" "$here" "$SLURM_ARRAY_TASK_ID"\n')


def test_the_job_file_for_grid_engine() -> None:
    """Nobody is asked if the options say what the site calls things; then the memory is that of a slot."""
    names = {"parallel_environment": "smp", "memory_resource": "mem"}
    config = {**COMMON, **names, "scheduler": "gridengine", "memory": "8G", "ge_opts": ["-P flock"]}
    with pytest.raises(HostError, match=r"nowhere\.invalid"):
        sheepdog.job_script(config, 3)  # does mem count once for a job?
    script = sheepdog.job_script({key: value for key, value in config.items() if key != "memory"}, 3)
    assert script.startswith(GRID_ENGINE)


def test_a_host_is_asked_for_its_scheduler() -> None:
    with pytest.raises(HostError, match=r"nowhere\.invalid"):
        sheepdog.job_script(COMMON)


def test_the_script_for_local_processes() -> None:
    script = sheepdog.job_script({"workers": 2}, 3)
    assert "while [ $element -le 2 ]; do" in script


@pytest.mark.parametrize("tasks", [0, -1, "3", 1.5, True])
def test_a_number_of_tasks(tasks: object) -> None:
    with pytest.raises(ConfigError, match="it must be a whole number, at least 1"):
        sheepdog.job_script(Config(scheduler="slurm"), tasks)  # type: ignore[arg-type]


def test_the_programs_of_a_host(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path_factory.mktemp("bin")
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    before = programs_on(LocalHost(), ["qsub", "sbatch"])
    program = directory / "sbatch"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert programs_on(LocalHost(), ["qsub", "sbatch"]) == before | {"sbatch"}
