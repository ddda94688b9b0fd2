"""What the project promises about itself: which way imports go, what the docs name, what the README and CI run."""

import ast
import dataclasses
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import gridengine
import sheepdog
from sheepdog.config import Config
from sheepdog.schedulers import archives
from tests import faults
from tests.local import ROOT
from tests.readme import commands

pytestmark = pytest.mark.slow
SOURCE = ROOT / "src/sheepdog"
HEAVY = {"cloudpickle", "cryptography", "sqlite3", "uvicorn"}

NAMES = ROOT / "src/gridengine"
FILES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))
WORKER = [file for file in FILES if file.startswith("client/")]
TESTED = ("fast", "docs", "drmaa", "joblib")  # the extras that the tests need
IMPORTS = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Hold the packages below a directory against the rules of pyproject.toml."""
    command = [sys.executable, "-P", "-c", IMPORTS, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.run(command, capture_output=True, text=True, cwd=source, env=environment)


def test_nothing_says_to_install_what_the_index_has_under_this_name() -> None:
    """That is the old library, 0.2.3."""
    texts = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.rst"),
        *(ROOT / "examples").glob("*.py"),
        *SOURCE.rglob("*.py"),
    ]
    said = [line for text in texts for line in text.read_text().splitlines() if "pip install" in line]
    assert said
    assert not [line for line in said if re.search("pip install [^`&]*sheepdog", line)]


def test_imports_go_down() -> None:
    done = lint_imports(NAMES.parent)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        ("front/functional.py", "from ..server.decide import queue", "the user's process starts the server"),
        ("joblib.py", "from .server.decide import queue", "the user's process starts the server"),
        ("front/functional.py", "from ..server import wakeup", "the user's process starts the server"),
        ("schedulers/batch.py", "from ..server import life", "imports go down"),
        ("schedulers/batch.py", "import gridengine", "gridengine is over all"),
        ("page/__init__.py", "from ..server.decide import queue", "imports go down"),  # it has no place yet
        ("client/words.py", "from .. import errors", "the worker travels alone"),
        ("server/decide/queue.py", "import socket", "decisions open no socket"),
    ],
)
def test_an_import_that_goes_up_is_seen(tmp_path: Path, file: str, line: str, rule: str) -> None:
    shutil.copytree(NAMES.parent, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/sheepdog" / file).parent.mkdir(exist_ok=True)
    with (tmp_path / "src/sheepdog" / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint_imports(tmp_path / "src")
    assert done.returncode == 1
    assert re.search(rf"{rule}.* BROKEN", done.stdout), done.stdout


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = {path.parent.relative_to(NAMES.parent).as_posix() for path in NAMES.parent.glob("*/*/__init__.py")}
    assert sorted(re.findall(r"^\| `(\w+/\w+)/` \|", text, re.MULTILINE)) == sorted(packages)


def test_every_package_is_built_and_checked() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    packages = sorted(path.name for path in NAMES.parent.iterdir())
    assert sorted(tool["mypy"]["packages"]) == packages
    assert sorted(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == [f"src/{name}" for name in packages]
    assert all((NAMES.parent / name / "py.typed").exists() for name in packages)


@pytest.mark.parametrize("file", WORKER)
def test_the_worker_needs_the_standard_library_only(file: str) -> None:
    """And its own rooms; but for cloudpickle, which travels beside it, and is imported in functions only."""
    tree = ast.parse((SOURCE / file).read_text())
    foreign = {
        name.partition(".")[0]: node.col_offset
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."])
        if not getattr(node, "level", 0)
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    own = {archives.WORKER} if file == "client/__main__.py" else set()
    assert foreign.keys() - own <= {"cloudpickle"}
    assert foreign.get("cloudpickle", 1), "cloudpickle must not be imported at the top"


@pytest.mark.parametrize("file", [*WORKER, "schedulers/session.py"])
def test_the_worker_is_python_3_6(file: str) -> None:
    path = SOURCE / file
    ast.parse(path.read_text(), feature_version=(3, 6))
    options = ["--quiet", "--no-tips", "--violations", "--target=3.6-", str(path)]
    vermin = [sys.executable, "-c", "import vermin; vermin.main()", *options]
    done = subprocess.run(vermin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("package", "allowed"), [("sheepdog", set()), ("gridengine", {"sqlite3"})])
def test_import_is_light(package: str, allowed: set[str]) -> None:
    code = f"import sys, {package}; dir({package}); print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sheepdog" in loaded
    assert not loaded & (HEAVY - allowed)


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package in (sheepdog, gridengine) for name in package.__all__]
)
def test_public_names_are_documented(package: ModuleType, name: str) -> None:
    assert list(undocumented(name, getattr(package, name))) == []


def undocumented(name: str, value: object) -> Iterator[str]:
    """A public name without a docstring, and those in it: in a class its methods, in a module its classes."""
    if not (getattr(value, "__doc__", None) or "").strip():
        yield name
    if isinstance(value, ModuleType):
        for inner, member in vars(value).items():
            if inspect.isclass(member) and member.__module__ == value.__name__ and not inner.startswith("_"):
                yield from undocumented(f"{name}.{inner}", member)
    elif inspect.isclass(value):
        for inner, member in vars(value).items():
            public = not inner.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
            if public and not inspect.getdoc(member) and not inherited(inner):
                yield f"{name}.{inner}"


def inherited(method: str) -> bool:
    """Whether the protocol of hosts says what a method does."""
    return hasattr(sheepdog.deployment.Host, method)


def test_the_docs_have_every_key_and_its_default() -> None:
    text = (ROOT / "docs/configuration.rst").read_text()
    rows = re.findall(r"^   \* - ``(\w+)``\n     - (.+)\n     - (.+)", text, re.MULTILINE)
    fields = dataclasses.fields(Config)
    assert [key for key, _, _ in rows] == [field.name for field in fields]
    for (key, default, _), field in zip(rows, fields, strict=True):
        if field.default:
            assert default == f"``{field.default}``", key
        else:
            assert default.strip(), key


def test_the_docs_name_every_refused_option() -> None:
    from sheepdog.config import qsub, sbatch

    for page in ("configuration", "coming-from-0.2"):
        text = (ROOT / f"docs/{page}.rst").read_text()
        assert [option for option in qsub.REFUSED if f"``{option}``" not in text] == []
    text = (ROOT / "docs/configuration.rst").read_text()
    assert [option for option in sbatch.REFUSED if f"``{option}``" not in text] == []


# Rooms without a test file of their own: names and types only, or what looks at them is in another process.
NO_TEST = {
    "client/__main__.py",  # test_main.py starts it
    "client/child/runner.py",  # test_child.py of its parent
    "client/controller.py",  # a name of old
    "client/wire/limits.py",
    "client/wire/messages.py",
    "client/wire/outcomes.py",
    "config/registry.py",
    "schedulers/session.py",  # test_drmaa.py runs it
    "values/directories.py",
    "values/wakeup.py",
}

# Test files without a room of their own. So are those named test_contract.py: they hold all of a kind to one contract.
NO_ROOM = {
    "schedulers/pbs.py",  # the example of docs/schedulers.rst, beside it
    "server/http/fuzz.py",  # what comes from the wire goes through all rooms of the package
    "server/http/inner_names.py",  # what the package takes from uvicorn
}


def rooms() -> set[str]:
    """The files that tests mirror: those in packages, but for packages' own."""
    return {file for file in FILES if "/" in file and not file.endswith("__init__.py")}


def test_every_room_has_its_test_file_and_every_test_file_its_room() -> None:
    """Under tests/, in the package of the same name. What looks at all of it is in whole/ and on_cluster/."""
    tests = ROOT / "tests"
    found = {str(path.relative_to(tests).with_name(path.name[5:])) for path in tests.rglob("*/test_*.py")}
    found = {file for file in found if file.split("/")[0] not in ("whole", "on_cluster", "gridengine")}
    assert sorted(rooms() - found - NO_TEST) == []
    assert sorted(file for file in found - rooms() - NO_ROOM if not file.endswith("/contract.py")) == []
    assert rooms() >= NO_TEST
    assert not found & NO_TEST
    assert found - rooms() >= NO_ROOM


def test_no_test_file_imports_another() -> None:
    """Nor does a program in a string. What two of them need is a fixture, or in a module without tests."""
    imports = re.compile(r"\b(?:from|import) .*\btests(?:\.\w+)*(?:\.| import )(?:\w+, )*test_\w+")
    files = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    assert {str(path): found for path, text in files.items() if (found := imports.findall(text))} == {}


@pytest.fixture(scope="module")
def shown() -> faults.Shown:
    """The faults that the tests say they show; collected by a Python of its own, as this one is in the midst of it."""
    done = subprocess.run([sys.executable, "-m", "tests.faults", "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return faults.loads(done.stdout)


def test_the_docs_show_every_fault_as_the_tests_do(shown: faults.Shown) -> None:
    assert faults.TABLE.read_text() == faults.table(shown), "make faults"


def test_every_fault_is_shown_or_said_to_be_impossible_to_show(shown: faults.Shown) -> None:
    assert faults.missing(shown) == []


def test_no_fault_is_both_shown_and_impossible_to_show(shown: faults.Shown) -> None:
    assert not {id for id, _, _ in shown} & faults.NOT_SHOWN.keys()


@pytest.mark.parametrize(
    ("id", "what", "promise"), [(0, "a", "b"), (55, "a", "b"), ("nosuch", "a", "b"), (1, "", "b"), (1, "a", "")]
)
def test_what_is_no_fault(id: int | str, what: str, promise: str) -> None:
    with pytest.raises(ValueError, match="a fault is one of 1 to 54"):
        faults.fault(id, what, promise=promise)


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    done = subprocess.run([*build, str(ROOT / "docs"), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference.html").read_text()
    for name in ("map", "map_async", "get_results", "get_errors", "job_script", "Config", "Server", "Storage"):
        assert f'id="sheepdog.{name}"' in page


def test_the_readme_sets_up_with_two_commands() -> None:
    run, test = commands()
    assert ".venv/bin/pip install . &&" in run
    assert "pytest" in test
    assert "CLUSTER_INSTALL=1" in test


def test_the_readmes_test_command_installs_exact_versions_of_all_that_is_needed() -> None:
    """Those of constraints.txt, which `make lock` writes: one for each Python, where they differ."""
    assert "pip install -c constraints.txt -e" in commands()[1]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(each for extra in ("test", *TESTED) for each in extras[extra])]
    for requirement in map(Requirement, wanted):
        versions = [line.partition("==")[2].split()[0] for line in lines if line.startswith(f"{requirement.name}==")]
        assert requirement.name == "sheepdog" or versions, requirement
        assert all(version in requirement.specifier for version in versions), requirement


def test_ci_runs_the_readmes_test_command_last() -> None:
    script = ROOT / ".ci/run"
    assert script.read_text().rstrip().splitlines()[-1] == commands()[1]
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o100


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link
