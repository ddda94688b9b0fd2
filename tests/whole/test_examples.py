"""The examples do what they say, here and on the cluster."""

import os
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.readme import commands
from tests.user import COMMANDS
from tests.waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
STOP = "import sheepdog; sheepdog.Server(dbfile='sheepdog.sqlite').stop()"

SIMPLE = "Received results: [2, 3, 4]\n"
ERRORS = """\
(2,) -> 0.5
(0,) -> None
('exit',) -> None
('lock',) -> None
(4,) -> 0.25

(0,) ZeroDivisionError: division by zero
('exit',) the task's process exited with status 3 before the function returned
('lock',) the result, a lock, cannot be serialised: TypeError: cannot pickle '_thread.lock' object

The first one in full:

ZeroDivisionError: division by zero
"""
SQUARES = "[1, 4, 9, 16, 25]\n"
PI = "pi is about 3.1420\n"
MATRIX = """\
rows 0 to 5: exit code 0
rows 6 to 11: exit code 0
rows 12 to 17: exit code 0
rows 18 to 23: exit code 0
trace: 32664
"""


class Here:
    """Runs examples on this machine, in a directory of their own, with no other configuration than theirs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ours = {
            "SHEEPDOG_SSH_DIR": str(directory / "jobs"),
            "SHEEPDOG_SCHEDULER": "local",
            "XDG_CONFIG_HOME": str(directory / "none"),
        }
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("SHEEPDOG_")} | ours

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert all(line.startswith("sheepdog: request ") for line in done.stderr.splitlines()), done.stderr
        return done.stdout

    def processes(self) -> list[str]:
        """What runs with our directory in its command line."""
        lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
        return [line for line in lines if str(self.directory) in line]

    def stop(self) -> None:
        """Wait until the workers have heard that all is done, and end the server."""
        until(lambda: not any("client.pyz" in line for line in self.processes()), "the workers have ended")
        self.run("-c", STOP)
        assert self.processes() == []


@pytest.fixture
def here(servers: None, tmp_path: Path) -> Iterator[Here]:
    here = Here(tmp_path)
    yield here
    here.stop()


def test_simple(here: Here) -> None:
    assert here.run(str(EXAMPLES / "simple.py")) == SIMPLE


def test_asynchronous(here: Here) -> None:
    lines = here.run(str(EXAMPLES / "asynchronous.py")).splitlines()
    assert lines == ["This is request 1", "Tasks: 8", *(f"{x} squared is {x * x}" for x in range(8))]


def test_namespaces(here: Here) -> None:
    assert here.run(str(EXAMPLES / "namespaces.py")) == "With 12: [17, 20, 23]\nWith 100: [105, 108, 111]\n"


def test_numpy_arrays(here: Here) -> None:
    assert here.run(str(EXAMPLES / "numpy_arrays.py")) == "ndarray [1 4]\nndarray [ 9 16]\n"


def test_errors(here: Here) -> None:
    text = here.run(str(EXAMPLES / "errors.py"))
    assert text.startswith(ERRORS)
    assert "(task 2 of request 1, attempt 1, on " in text
    assert "    return 1 / x\n" in text
    assert text.endswith("The end of its output:\nworking on 0\n")


def test_simulation(here: Here) -> None:
    lines = here.run(str(EXAMPLES / "simulation.py")).splitlines()
    for seed in (1, 2):
        generator, place, expected = random.Random(seed), 0, []
        for step in range(1, 30_001):
            place += generator.choice((-1, 1))
            if step % 10_000 == 0:
                expected.append(f"walk {seed} is at {place} after {step} steps")
        expected.append(f"walk {seed} ended at {place}")
        assert [line for line in lines if line.startswith(f"walk {seed} ")] == expected


def test_bootstrap_agrees_with_the_textbook(here: Here) -> None:
    text = here.run(str(EXAMPLES / "bootstrap.py"))
    rows = re.findall(r"^(\w\w+) +(-?[\d.]+) +(-?[\d.]+) +(-?[\d.]+)( \*)?$", text, re.MULTILINE)
    table = {name: [float(number) for number in numbers] for name, *numbers, _ in rows}
    assert list(table) == ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    estimate, low, high = table["bmi"]
    assert estimate == pytest.approx(519.8, abs=0.1)
    error = 66.5  # the standard error of least squares
    assert low == pytest.approx(estimate - 1.96 * error, abs=20)
    assert high == pytest.approx(estimate + 1.96 * error, abs=20)
    assert [name for name, *_, star in rows if star] == ["sex", "bmi", "bp", "s5"]


def test_gridengines_own(here: Here) -> None:
    assert here.run(str(EXAMPLES / "gridengine_readme.py")) == SQUARES


@pytest.mark.parametrize("scheduler", [[], ["process"]])
def test_monte_carlo(here: Here, scheduler: list[str]) -> None:
    assert here.run(str(EXAMPLES / "gridengine_monte_carlo.py"), *scheduler) == PI


@pytest.mark.parametrize("scheduler", [[], ["process"]])
def test_matrix(here: Here, scheduler: list[str]) -> None:
    assert here.run(str(EXAMPLES / "gridengine_matrix.py"), *scheduler) == MATRIX


def test_the_readmes_first_command(here: Here) -> None:
    words = shlex.split(commands()[0])
    assert here.run("-c", words[words.index("-c") + 1]) == "[2, 3, 4]\n"


def test_there_is_a_test_for_every_example() -> None:
    tested = re.findall(r'EXAMPLES / "(\w+\.py)"', Path(__file__).read_text())
    assert set(tested) == {path.name for path in EXAMPLES.glob("*.py")}


class There:
    """Runs examples on outside; their workers run on the nodes."""

    def __init__(self, cluster: Cluster, directory: Path, **environ: str) -> None:
        self.cluster = cluster
        self.directory = directory
        self.environ = environ

    def run(self, *command: str) -> str:
        env = {"SHEEPDOG_SHELL": "/opt/python/bin/python3", **self.environ}
        python = [sys.executable, "-W", "error"]
        done = self.cluster.on("outside", [*python, *command], cwd=self.directory, env=env, timeout=120)
        assert all(line.startswith("sheepdog: request ") for line in done.stderr.splitlines()), done.stderr
        return done.stdout

    def stop(self) -> None:
        """Wait until the queue is empty, and end the server."""
        look = ["sh", "-c", COMMANDS[self.cluster.scheduler]["list"]]
        until(lambda: not self.cluster.on("head", look).stdout, "the queue is empty", timeout=60)
        self.run("-c", STOP)


@pytest.fixture
def there(cluster: Cluster, tmp_path: Path) -> Iterator[There]:
    there = There(cluster, tmp_path)
    yield there
    there.stop()


def test_simple_on_the_cluster(there: There) -> None:
    assert there.run(str(EXAMPLES / "simple.py"), "head") == SIMPLE


def test_errors_on_the_cluster(there: There) -> None:
    text = there.run(str(EXAMPLES / "errors.py"), "head")
    assert text.startswith(ERRORS)
    assert re.search(r"\(task 2 of request 1, attempt 1, on node[12], after", text)


@pytest.fixture(params=["cluster", "slurm_cluster"])
def gridengine_there(request: pytest.FixtureRequest, cluster_possible: None, tmp_path: Path) -> Iterator[There]:
    """A cluster of either kind, for users of the gridengine library: they say the host in the environment."""
    there = There(request.getfixturevalue(request.param), tmp_path, SHEEPDOG_HOST="head")
    yield there
    there.stop()


def test_gridengine_on_clusters(gridengine_there: There) -> None:
    there = gridengine_there
    assert there.run(str(EXAMPLES / "gridengine_readme.py")) == SQUARES
    for example, shown in (("monte_carlo", PI), ("matrix", MATRIX)):
        assert there.run(f"{EXAMPLES}/gridengine_{example}.py", there.cluster.scheduler, "head") == shown
