"""Installed packages that are not where the workers are: looked for before any task runs, and brought along."""

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from sheepdog.deployment import uv
from tests.bundle.projects import write
from tests.faults import fault
from tests.pythons import WORKERS, python_of
from tests.wheels import settings, wheel

pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.slow]

SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of this version that has the standard library alone."""
    return bare_python(tmp_path_factory.mktemp("bare"))


def bare_python(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def with_numpy_1(place: Path, source: str) -> Path:
    """A Python of this version with a package that says that it is an old numpy."""
    folder = bare_python(place / "bare")
    write(folder / SITE, {"numpy/__init__.py": source, "numpy-1.0.dist-info/METADATA": ""})
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


@fault("packages", "... on another Python", promise="no task is run, as nothing stands in for its module there")
@pytest.mark.parametrize("top", ["import numpy", "import sys\nif sys.path:\n    import numpy"])
def test_a_module_that_another_python_cannot_import_for_want_of_a_package(place: Path, top: str) -> None:
    other = next((each for minor in WORKERS if minor != sys.version_info.minor and (each := python_of(minor))), None)
    if other is None:
        pytest.skip("there is no other Python on this machine")
    bare = place / "bare"
    subprocess.run([other, "-m", "venv", "--without-pip", bare], check=True)
    files = {"plots.py": f"{top}\ndef size(x): return x + 1\n"}
    said = run(place, bare, files, "import plots\nprint(said(plots.size, 1))")
    assert f"({bare}/bin/python), which lacks numpy==" in said
    assert "packages=True" in said


@fault("packages", "a package is of another version there", promise="the tasks run; it is said once")
def test_another_version(place: Path, tmp_path: Path) -> None:
    other = with_numpy_1(tmp_path, "def sin(x): return 'another'")
    said = run(place, other, {}, "print(said(lambda x: numpy.sin(x), 1.0))")
    assert "['another', 'another', 'another', 'another']" in said
    assert said.count("a package is of another version there than here: numpy 1.0 there") == 1


@fault("packages", "... and lacks a module that the pickles name", promise="no task is run; both versions are named")
def test_another_version_that_lacks_a_module(place: Path, tmp_path: Path) -> None:
    said = run(place, with_numpy_1(tmp_path, ""), {}, "print(said(lambda x: x, numpy.arange(3)))")
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


# --- brought along

needs_uv = pytest.mark.skipif(not uv.program(), reason="there is no uv")

# ssh hands one text to a shell, as sshd does, in a home directory of its own.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do
  case $1 in -G) echo "host $#"; exit;; -O|-N) exit;; esac
  shift
done
cd "$FAR" && HOME=$FAR exec env -u PYTHONPATH sh -c "$3"
"""
AWAY = """
import glob, logging, sys
import sheepdog
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
C = {{"host": "there", "scheduler": "local", "workers": 2, "shell": {shell!r}}}
def folders(): return [each for each in glob.glob("far/.sheepdog/packages/*")]
"""


@pytest.fixture
def far(place: Path, bare: Path) -> Path:
    """Somebody whose other host has a bare Python, and who has wheels in a folder."""
    write(place, {"bin/ssh": SSH, "far/readme": "", "wheels/readme": ""})
    (place / "bin/ssh").chmod(0o755)
    wheel(place / "wheels", "wool", "1.0", {"wool/__init__.py": "V = 1"}, ("silk",))
    wheel(place / "wheels", "wool", "2.0", {"wool/__init__.py": "V = 2"}, ("silk",))
    wheel(place / "wheels", "silk", "1.0", {"silk.py": "def weave(x): return (x, __file__)"})
    for name in ("wool-1.0", "silk-1.0"):
        with zipfile.ZipFile(place / f"wheels/{name}-py3-none-any.whl") as archive:
            archive.extractall(place / "here/site-packages")
    (place / "head.py").write_text(AWAY.format(shell=f"{bare}/bin/python"))
    return place


def bring(far: Path, program: str) -> str:
    environment = {
        **os.environ,
        **settings(far / "wheels", far / "cache"),
        "FAR": str(far / "far"),
        "PATH": f"{far}/bin:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(far / "here/site-packages")]).lstrip(
            os.pathsep
        ),
    }
    (far / "main.py").write_text((far / "head.py").read_text() + program)
    done = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, timeout=150, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LAZY = """
import wool
def f(x):
    import silk
    return wool.V, silk.weave(x)[0], "/packages/" in silk.weave(x)[1]
"""


@needs_uv
@fault("packages", "packages=True", promise="what is imported comes, as it is here, with what it needs; once")
def test_what_the_code_imports_is_brought_along_once(far: Path) -> None:
    program = """
print(sheepdog.map(f, [(1,)] * 2, {**C, "packages": True}, verbose=False))
print(sheepdog.map(f, [(2,)] * 2, {**C, "packages": True}, verbose=False))
print(len(folders()))
print(*[(each.kind, each.path in folders()[0]) for each in sheepdog.kept(C)])
with sheepdog.Executor(config={**C, "packages": True}) as executor:
    print(executor.submit(f, 3).result())
"""
    said = bring(far, LAZY + program)
    assert "[(1, 1, True), (1, 1, True)]" in said
    assert "[(1, 2, True), (1, 2, True)]\n1\n" in said
    assert "('packages', True)" in said
    assert "(1, 3, True)" in said
    assert len(re.findall("packages .* go to", said)) == 1  # the second run, and the executor, send nothing
    assert said.count("its packages are in") == 2


@needs_uv
def test_local_processes_of_another_python(far: Path) -> None:
    program = """
C = {**C, "host": None}
print(sheepdog.map(f, [(1,)], {**C, "packages": True}, verbose=False))
print(*[each.kind for each in sheepdog.kept(C)])
"""
    assert "[(1, 1, True)]\npackages\n" in bring(far, LAZY + program)


@needs_uv
def test_requirements(far: Path) -> None:
    (far / "requirements.txt").write_text("wool==2.0\n")
    program = """
for packages in (["wool==2.*"], "requirements.txt"):
    print(sheepdog.map(f, [(1,)], {**C, "packages": packages}, verbose=False))
print(len(folders()))
"""
    assert bring(far, LAZY + program).count("[(2, 1, True)]") == 2


@needs_uv
@fault("packages", "a package that is to come exists here only", promise="it is named; nothing is left, nothing ran")
def test_a_package_that_is_here_only(far: Path) -> None:
    (far / "wheels/wool-1.0-py3-none-any.whl").unlink()
    program = """
try: sheepdog.map(f, [(1,)], {**C, "packages": True}, verbose=False)
except ValueError as error: print("said:", error)
print(folders())
"""
    said = bring(far, LAZY + program)
    assert re.search(r"said: the packages cannot be brought along for Python 3\.\d+ on .*: .*wool==1\.0", said)
    assert said.endswith("[]\n")


@needs_uv
@fault("packages", "... and may not be needed", promise="it is left out and named, with the file that imports it")
def test_a_package_that_is_here_only_and_perhaps_not_needed(far: Path) -> None:
    (far / "wheels/wool-1.0-py3-none-any.whl").unlink()
    write(far, {"plots.py": "def show():\n    import wool\ndef f(x):\n    import silk\n    return silk.weave(x)[0]\n"})
    program = """
import plots
sys.stderr = sys.stdout
print(sheepdog.map(plots.f, [(1,)], {**C, "packages": True}))
"""
    said = bring(far, program)
    assert "\n[1]\n" in said
    assert re.search(r"sheepdog: .*packages are resolved, for Python 3\.\d+", said)
    assert re.search(r"sheepdog: .*packages \([\d.]+ MB, [\d.]+ MB unpacked\) go to \.sheepdog/packages/", said)
    assert re.search(r"wool==1\.0, which .*/plots\.py imports, is left out, and perhaps not needed: .*wool", said)


@needs_uv
def test_packages_that_are_gone_come_again(far: Path) -> None:
    program = """
import shutil
print(sheepdog.map(f, [(1,)], {**C, "packages": True}, verbose=False))
[folder] = folders()
shutil.rmtree(folder)
print(sheepdog.map(f, [(1,)], {**C, "packages": True}, verbose=False))
"""
    said = bring(far, LAZY + program)
    assert "[(1, 1, True)]" in said
    assert len(re.findall("packages .* go to", said)) == 2


@needs_uv
@fault("packages", "a node has another Python than the head node", promise="no task is run; both Pythons are named")
def test_packages_for_another_python(far: Path) -> None:
    program = """
import json
print(sheepdog.map(f, [(1,)], {**C, "packages": True}, verbose=False))
[folder] = folders()
with open(f"{folder}/sheepdog.json") as file: made = json.load(file)
with open(f"{folder}/sheepdog.json", "w") as file: json.dump({**made, "python": "3.5"}, file)
try: sheepdog.map(f, [(1,)], {**C, "packages": True}, verbose=False)
except sheepdog.NotRun as error: print("said:", error)
"""
    said = bring(far, LAZY + program)
    assert "[(1, 1, True)]" in said
    assert re.search(r"said: .* they are for CPython 3\.5, and this is cpython 3\.\d+", said)


@needs_uv
def test_numpy_for_a_python_that_has_none(far: Path) -> None:
    import numpy

    numpy_here = metadata.distribution("numpy")
    tag = re.search(r"Tag: (.*)", numpy_here.read_text("WHEEL") or "")
    assert tag is not None
    with zipfile.ZipFile(far / f"wheels/numpy-{numpy.__version__}-{tag[1]}.whl", "w") as archive:
        for file in numpy_here.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                archive.write(str(file.locate()), str(file))
    program = """
import numpy
def g(x): return numpy.linalg.norm(x), numpy.__version__, "/packages/" in numpy.__file__
for _ in range(2):
    print(sheepdog.map(g, [(numpy.array([3., 4.]),)], {**C, "packages": True}, verbose=False))
"""
    said = bring(far, program)
    assert said.count(f"5.0), '{numpy.__version__}', True)]") == 2
    assert len(re.findall("packages .* go to", said)) == 1


def test_local_processes_use_what_is_here(place: Path, bare: Path) -> None:
    program = """
print(sheepdog.map(abs, [(-1,)], {"scheduler": "local", "packages": ["numpy"]}))
try: sheepdog.map(abs, [(-1,)], {"scheduler": "local", "packages": ["numpy==0.1"]})
except ValueError as error: print(error)
"""
    said = run(place, bare, {}, program)
    assert said.startswith("[1]\n")
    assert "numpy==0.1 is not installed here" in said
