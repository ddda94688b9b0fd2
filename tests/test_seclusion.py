"""On a machine with schedulers and a configuration of its own, the tests touch neither."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.config import make_config
from tests.local import ROOT
from tests.seclusion import SCHEDULERS, seclude
from tests.waiting import until

pytestmark = pytest.mark.slow
SELECTION = (
    "tests/front/test_stream.py",
    "tests/schedulers/test_archives.py",
    "tests/gridengine/test_library.py::test_the_example_of_its_readme",
    "tests/whole/test_security.py::test_ones_own_sheepdog_is_closed",
)


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment on a machine whose schedulers write a mark and hang, and whose user's configuration is wrong."""
    (tmp_path / "bin").mkdir()
    for name in SCHEDULERS:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name} \"$@\" >>'{tmp_path}/mark'\nexec sleep 20\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "slurm.conf").touch()
    (tmp_path / "home/.config/sheepdog").mkdir(parents=True)
    (tmp_path / "home/.config/sheepdog/config.toml").write_text("wrong = 1\n")
    (tmp_path / "sheepdog.toml").write_text("wrong = 1\n")
    return {
        **os.environ,
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "SGE_ROOT": "/sge",
        "SLURM_CONF": f"{tmp_path}/slurm.conf",
        "SHEEPDOG_HOST": "no-such-host.invalid",
        "HOME": f"{tmp_path}/home",
        "XDG_CONFIG_HOME": f"{tmp_path}/home/.config",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }


def test_no_scheduler_of_the_machine_is_touched(machine: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    tests = [str(ROOT / test) for test in SELECTION]
    done = subprocess.run([*command, *tests], env=machine, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "mark").exists()


def test_who_is_not_secluded_touches_it(machine: dict[str, str], tmp_path: Path) -> None:
    """So the test above can fail."""
    del machine["SHEEPDOG_HOST"], machine["XDG_CONFIG_HOME"]
    code, mark = "import sheepdog; sheepdog.map(abs, [(1,)])", tmp_path / "mark"
    client = subprocess.Popen(
        [sys.executable, "-c", code], env={**machine, "HOME": str(tmp_path)}, cwd=tmp_path / "bin"
    )
    try:
        until(lambda: mark.exists() and mark.read_text().endswith("\n"), "a scheduler has been touched")
        assert mark.read_text().startswith("q")
    finally:
        client.kill()
        client.wait()


def test_all_else_is_on_the_path(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin/tool").touch()
    (tmp_path / "new").mkdir()
    seclude(machine, tmp_path / "new")
    shadow = Path(machine["PATH"].split(os.pathsep)[0])
    assert {path.name for path in shadow.iterdir()} == {".source", "tool"}
    assert make_config(environ=machine, directory=tmp_path / "new").host is None
    (tmp_path / "bin/installed").touch()
    os.utime(tmp_path / "bin")
    before = machine["PATH"]
    seclude(machine, tmp_path / "new")
    assert machine["PATH"] == before
    assert (shadow / "installed").exists()
