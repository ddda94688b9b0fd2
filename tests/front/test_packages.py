"""Which packages a request brings along."""

import sys
from pathlib import Path

import cloudpickle
import pytest

from sheepdog.config import make_config
from sheepdog.config.options import Interpreter, Options
from sheepdog.deployment import LocalHost
from sheepdog.errors import ConfigError
from sheepdog.front.packages import asked_for, facts, left_out, require_here
from sheepdog.values.packages import Wanted

NUMPY = Wanted("numpy", "numpy", "2.4.6", certain=True)
SKLEARN = Wanted("sklearn", "scikit-learn", "1.9.1", certain=False)
MINE = Wanted("mine", "", "", certain=False)


def test_what_the_code_imports() -> None:
    asked = asked_for(True, (NUMPY, SKLEARN, MINE))
    assert (asked.requirements, asked.perhaps) == (("numpy==2.4.6",), ("scikit-learn==1.9.1",))
    assert f"cloudpickle=={cloudpickle.__version__}" in asked.constraints
    assert asked_for(True, ()) == ((), (), (), ())


def test_a_package_of_no_distribution_is_refused_if_it_is_needed() -> None:
    with pytest.raises(ConfigError, match="needed is here and of no known distribution"):
        asked_for(True, (Wanted("needed", "", "", certain=True),))


def test_what_is_left_out_is_named() -> None:
    mine = Wanted("mine", "", "", certain=False, by="/home/a/sim.py")
    assert left_out((NUMPY, SKLEARN, mine), {"scikit-learn==1.9.1": "no wheel"}) == [
        "scikit-learn==1.9.1 is left out, and perhaps not needed: no wheel",
        "mine, which /home/a/sim.py imports, is left out, and perhaps not needed: it is of no known distribution",
    ]


def test_requirements_and_files(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    assert asked_for(("numpy==1.26.*",), ()).requirements == ("numpy==1.26.*",)
    assert asked_for(str(tmp_path / "requirements.txt"), ()).files == (str(tmp_path / "requirements.txt"),)
    with pytest.raises(ConfigError, match=r"there is no file .*/numpy; requirements are given as a list: \['numpy'\]"):
        asked_for("numpy", ())


def test_local_processes_use_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("cloudpickle>1\n")
    (tmp_path / "inner.txt").write_text("cloudpickle<1\n")
    (tmp_path / "bad.txt").write_text("-r inner.txt\nnowhere==1\n")
    for given in (None, True, str(tmp_path / "good.txt"), ("cloudpickle",)):
        require_here(given)
    with pytest.raises(ConfigError) as raised:
        require_here(("cloudpickle", "nowhere==1"))
    assert "nowhere==1 is not installed here" in str(raised.value)
    assert f"{sys.executable} -m pip install nowhere==1" in str(raised.value)
    with pytest.raises(ConfigError, match="cloudpickle<1, nowhere==1 is not installed here"):
        require_here(str(tmp_path / "bad.txt"))
    with pytest.raises(ConfigError, match="there is no file"):
        require_here("nowhere.txt")


VERSION = ".".join(map(str, sys.version_info[:2]))
NODES = "echo only on nodes >&2; false"
OLD = f"""#!/bin/sh
{{ echo "import json, sys; del sys.implementation; sys.version_info = (2, 7, 18)"; cat; }} | exec {sys.executable} -
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without a configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))


def asked(interpreter: str = "", **config: object) -> Options:
    settings = make_config({"host": "there", "scheduler": "slurm", **config})
    return Options(settings, interpreter=Interpreter(interpreter))


@pytest.mark.usefixtures("bare")
def test_the_workers_python_says_what_it_is() -> None:
    assert facts(asked(sys.executable), LocalHost()).version == VERSION


@pytest.mark.usefixtures("bare")
def test_setup_that_works_on_nodes_only() -> None:
    assert facts(asked(sys.executable, setup=[NODES]), LocalHost()).version == VERSION
    with pytest.raises(ConfigError) as raised:
        facts(asked("python3", setup=[NODES]), LocalHost())
    assert "the lines of setup, which lead to it, fail there: only on nodes" in str(raised.value)
    assert f"name its path with the option shell, or bring one along with python='{VERSION}'" in str(raised.value)


@pytest.mark.usefixtures("bare")
def test_the_option_shell_is_doubted_only_if_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Is the option shell right\?"):
        facts(asked(shell="/nowhere/python3"), LocalHost())
    with pytest.raises(ConfigError, match=r"Is the option shell right\?"):
        facts(asked(shell="/nowhere/python3", setup=["true"]), LocalHost())
    with pytest.raises(ConfigError, match="Name another Python with the option shell"):
        facts(asked("/nowhere/python3"), LocalHost())


@pytest.mark.usefixtures("bare")
def test_a_python_of_old_is_named(tmp_path: Path) -> None:
    (tmp_path / "python2").write_text(OLD)
    (tmp_path / "python2").chmod(0o755)
    with pytest.raises(ConfigError, match=r"which is Python 2\.7; workers need 3\.6 or newer"):
        facts(asked(str(tmp_path / "python2")), LocalHost())
