"""Which packages a request brings along."""

import sys
from pathlib import Path

import cloudpickle
import pytest

from sheepdog.errors import ConfigError
from sheepdog.front.packages import asked_for, left_out, require_here
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
