"""Installed packages that are not where the workers are: looked for before any task runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundle.projects import write
from tests.faults import fault

pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.slow]

SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of this version that has the standard library alone."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


PROGRAM = """
import sheepdog, numpy
C = {{"scheduler": "local", "workers": 2, "shell": {shell!r}}}
def said(f, *args):
    try:
        return sheepdog.map(f, [args] * 4, C)
    except sheepdog.NotRun as error:
        return str(error)
"""


def run(place: Path, bare: Path, files: dict[str, str], program: str) -> str:
    write(place, files)
    (place / "main.py").write_text(PROGRAM.format(shell=f"{bare}/bin/python") + program)
    done = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + "\n" + done.stderr


@fault(
    "packages",
    "a package that the function needs is not installed where the workers are",
    promise="no task is run; one list of what is missing, and the line that mends it",
)
@pytest.mark.parametrize(
    "f", ["lambda x: numpy.sin(x)", "numpy.sin", "sim.wave", "lambda x: sim.wave(x)", "first", "lambda x: x"]
)
def test_a_package_is_missing(place: Path, bare: Path, f: str) -> None:
    import numpy

    program = f"""
import sim
def first(x):
    import numpy.linalg
    return x
argument = numpy.float64(1) if {f == "lambda x: x"} else 1.0
print(said({f}, argument))
"""
    files = {"sim.py": "import numpy as np\ndef wave(x): return np.sin(x)\n"}
    said = run(place, bare, files, program)
    python = f"{bare}/bin/python"
    assert f"({python}), which lacks numpy=={numpy.__version__}." in said
    assert f"{python} -m pip install numpy=={numpy.__version__}\n" in said
    assert "packages=True" in said


@fault("packages", "... and what imports it is not needed", promise="the tasks run; that it is not there is said once")
def test_a_package_that_is_perhaps_not_needed(place: Path, bare: Path) -> None:
    files = {"plots.py": "import numpy\ndef size(x): return x + 1\ndef sine(x): return numpy.sin(x)\n"}
    said = run(place, bare, files, "import plots\nprint(said(plots.size, 1), said(lambda x: plots.size(x), 1))")
    assert "[2, 2, 2, 2] [2, 2, 2, 2]" in said
    assert said.count("not installed there, and perhaps not needed: numpy") == 2  # once for each request


@fault("packages", "a package is of another version there", promise="the tasks run; it is said once")
def test_another_version(place: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    write(bare / SITE, {"numpy/__init__.py": "def sin(x): return 'another'", "numpy-1.0.dist-info/METADATA": ""})
    said = run(place, bare, {}, "print(said(lambda x: numpy.sin(x), 1.0))")
    assert "['another', 'another', 'another', 'another']" in said
    assert said.count("a package is of another version there than here: numpy 1.0 there") == 1


@fault("packages", "... and lacks a module that the pickles name", promise="no task is run; both versions are named")
def test_another_version_that_lacks_a_module(place: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    write(bare / SITE, {"numpy/__init__.py": "", "numpy-1.0.dist-info/METADATA": ""})
    said = run(place, bare, {}, "print(said(lambda x: x, numpy.arange(3)))")
    assert "numpy 1.0 there, 2." in said
    assert "which lacks numpy." in said


def test_an_executor(place: Path, bare: Path) -> None:
    program = """
with sheepdog.Executor(config=C) as executor:
    try: executor.submit(numpy.sin, 1.0).result()
    except Exception as error: print(type(error).__name__, error)
"""
    said = run(place, bare, {}, program)
    assert "NotRun" in said
    assert "which lacks numpy==" in said
