"""Packages for another Python: resolved by uv, packed, kept here."""

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from sheepdog.client.packages import NOTE
from sheepdog.deployment import uv, wheels
from sheepdog.deployment.wheels import Request, Target, in_short, target
from sheepdog.errors import ConfigError
from tests.wheels import settings, wheel

TARGET = Target("3.12", "x86_64-manylinux_2_28")

needs_uv = pytest.mark.skipif(not uv.program(), reason="there is no uv")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, where uv looks."""
    for name, value in settings(tmp_path / "wheels", tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    wheel(tmp_path / "wheels", "wool", "1.0", {"wool/__init__.py": "V = 1"})
    wheel(tmp_path / "wheels", "wool", "2.0", {"wool/__init__.py": "V = 2"})
    wheel(tmp_path / "wheels", "cloth", "1.0", {"cloth.py": "import wool"}, ("wool>=1",))
    wheel(tmp_path / "wheels", "steel", "1.0", {"steel.py": ""}, tag="cp311-cp311-manylinux_2_28_x86_64")
    return tmp_path / "wheels"


def content(archive: wheels.Archive) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive.path.read_bytes()))) as members:
        return {each.name: members.extractfile(each).read().decode() for each in members}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("facts", "platform"),
    [
        (("cpython", "3.12.1", "x86_64", "glibc 2.36"), "x86_64-manylinux_2_36"),
        (("cpython", "3.6.8", "x86_64", "glibc 2.28"), "x86_64-manylinux_2_28"),
        (("cpython", "3.6.8", "aarch64", "glibc 2.17"), "aarch64-manylinux_2_17"),
        (("cpython", "3.13", "x86_64", "glibc 2.99"), "x86_64-manylinux_2_40"),
        (("cpython", "3.13", "x86_64", "musl"), "x86_64-unknown-linux-musl"),
    ],
)
def test_target(facts: tuple[str, str, str, str], platform: str) -> None:
    assert target(*facts).platform == platform
    assert facts[1].startswith(target(*facts).version)


@pytest.mark.parametrize(
    "facts",
    [
        ("pypy", "3.10", "x86_64", "glibc 2.36"),
        ("cpython", "3.12", "ppc64le", "glibc 2.36"),
        ("cpython", "3.6", "x86_64", "glibc 2.12"),
    ],
)
def test_what_nothing_can_be_brought_for_is_said(facts: tuple[str, str, str, str]) -> None:
    with pytest.raises(ConfigError, match="packages can"):
        target(*facts)


# Captured from uv 0.13.9.
NO_WHEEL = """error: No solution found when resolving dependencies
  cause: Because numpy==2.4.6 has no usable wheels and you require numpy==2.4.6, we can conclude that your requirements
are unsatisfiable.

hint: Wheels are required for `numpy` because building from source is disabled for all packages
"""
UNKNOWN = """error: No solution found when resolving dependencies
  cause: Because nosuch was not found in the package registry and you require nosuch, we can conclude that your
requirements are unsatisfiable.
"""
NO_VERSION = """error: No solution found when resolving dependencies
  cause: Because there is no version of numpy==99.1 and you require numpy==99.1, we can conclude that your requirements
are unsatisfiable.
"""
NOT_PARSED = """error: Failed to parse: `no such`
  cause: Expected one of `@`, `(`, found `s`
"""


@pytest.mark.parametrize(
    ("words", "short"),
    [
        (NO_WHEEL, "numpy==2.4.6 has no wheel for it: name a version that has one with packages=[...]"),
        (UNKNOWN, "nosuch is not known there from where uv fetches"),
        (NO_VERSION, "there is no version numpy==99.1"),
        (
            NOT_PARSED,
            "Failed to parse: `no such` cause: Expected one of `@`, `(`, found `s`",
        ),
        ("", "uv says nothing more"),
    ],
)
def test_the_words_of_uv_in_short(words: str, short: str) -> None:
    assert in_short(words) == short


@needs_uv
@pytest.mark.usefixtures("folder")
def test_what_is_wanted_comes_with_what_it_needs() -> None:
    found = wheels.resolve(Request(("cloth",)), TARGET)
    files = content(found)
    assert (files["cloth.py"], files["wool/__init__.py"]) == ("import wool", "V = 2")
    assert found.size == sum(map(len, files.values()))
    older = wheels.resolve(Request(("cloth",), constraints=("wool==1.0", "other==7")), TARGET)
    assert content(older)["wool/__init__.py"] == "V = 1"
    assert older.name != found.name


@needs_uv
def test_it_is_resolved_once(folder: Path) -> None:
    first = wheels.resolve(Request(("wool",)), TARGET)
    for each in folder.iterdir():
        each.unlink()
    assert wheels.resolve(Request(("wool",)), TARGET) == first


@needs_uv
@pytest.mark.parametrize("line", ["-r inner.txt", "-c inner.txt", "./{wheel}", "wool @ file://{folder}/{wheel}"])
def test_what_other_files_say_is_never_old(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = wheel(tmp_path, "wool", "1.0", {"wool/__init__.py": "V = 1"})
    (tmp_path / "inner.txt").write_text("wool==1.0")
    (tmp_path / "r.txt").write_text(line.format(wheel=path.name, folder=tmp_path) + "\ncloth\n")
    request = Request(files=(str(tmp_path / "r.txt"),))
    assert content(wheels.resolve(request, TARGET))["wool/__init__.py"] == "V = 1"
    (tmp_path / "inner.txt").write_text("wool==2.0")
    wheel(tmp_path, "wool", "1.0", {"wool/__init__.py": "V = 2"})
    assert content(wheels.resolve(request, TARGET))["wool/__init__.py"] == "V = 2"


@needs_uv
def test_other_settings_of_uv_are_another_request(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "less.txt").write_text("wool<2")
    request = Request(("wool",))
    assert content(wheels.resolve(request, TARGET))["wool/__init__.py"] == "V = 2"
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "less.txt"))
    assert content(wheels.resolve(request, TARGET))["wool/__init__.py"] == "V = 1"
    (tmp_path / "less.txt").write_text("wool>1")
    assert content(wheels.resolve(request, TARGET))["wool/__init__.py"] == "V = 2"
    monkeypatch.delenv("UV_FIND_LINKS")
    (tmp_path / "uv.toml").write_text(f'no-index = true\nfind-links = ["{tmp_path}/few"]\n')
    wheel(tmp_path / "few", "wool", "3.0", {"wool/__init__.py": "V = 3"})
    assert content(wheels.resolve(request, TARGET))["wool/__init__.py"] == "V = 3"


@needs_uv
def test_the_same_content_has_the_same_name(folder: Path) -> None:
    assert wheels.resolve(Request(("wool==2.0",)), TARGET).name == wheels.resolve(Request(("wool",)), TARGET).name


@needs_uv
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "cloth\nwool==1.0\n"),
        ("script.py", '# /// script\n# dependencies = ["cloth", "wool==1.0"]\n# ///\nimport cloth\n'),
    ],
)
def test_files_of_requirements(folder: Path, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    files = content(wheels.resolve(Request(files=(str(tmp_path / name),)), TARGET))
    assert files["wool/__init__.py"] == "V = 1"
    assert "cloth.py" in files


@needs_uv
def test_a_lock_of_uv_is_refused_with_what_makes_one_that_is_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project = '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = ["cloth", "wool<2"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    subprocess.run([uv.program(), "lock", "--quiet"], check=True)
    with pytest.raises(ConfigError) as raised:
        wheels.resolve(Request(files=(str(tmp_path / "uv.lock"),)), TARGET)
    line = str(raised.value).rpartition(": ")[2]
    subprocess.run([uv.program(), *line.split()[1:], "--quiet"], check=True, stdout=subprocess.DEVNULL)
    files = content(wheels.resolve(Request(files=(str(tmp_path / "pylock.toml"),)), TARGET))
    assert files["wool/__init__.py"] == "V = 1"
    assert "cloth.py" in files


@needs_uv
@pytest.mark.parametrize(
    ("requirement", "words"), [("steel", "steel.* has no wheel"), ("nosuch", "nosuch"), ("wool==9", "wool==9")]
)
def test_what_cannot_be_had_is_named_and_nothing_is_left(folder: Path, requirement: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"for Python 3.12 on x86_64-manylinux_2_28: .*{words}"):
        wheels.resolve(Request((requirement,)), TARGET)
    assert [*wheels.cache().iterdir()] == []


@needs_uv
def test_what_is_wanted_perhaps_is_left_out_if_it_cannot_be_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(folder, "rope", "1.0", {"rope.py": ""}, ("nosuch",))
    request = Request(("wool==1.0",), perhaps=("cloth==1.0", "rope==1.0", "steel==1.0", "nowhere==1"))
    found = wheels.resolve(request, TARGET)
    files = content(found)
    assert ("cloth.py" in files, files["wool/__init__.py"]) == (True, "V = 1")
    assert set(found.left) == {"rope==1.0", "steel==1.0", "nowhere==1"}
    assert "steel" in found.left["steel==1.0"]
    said: list[str] = []
    again = wheels.resolve(request, TARGET, lambda: said.append("resolved"))
    assert (again, said) == (found, [])
    wheel(folder, "steel", "1.0", {"steel.py": ""})
    monkeypatch.setattr(wheels, "LEFT_OUT", 0.0)
    assert "steel.py" in content(wheels.resolve(request, TARGET, lambda: said.append("resolved")))
    assert said == ["resolved"]


def test_without_uv_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "program", lambda: "")
    with pytest.raises(ConfigError, match="there is no uv here"):
        wheels.resolve(Request(("wool",)), TARGET)


def test_constraints_are_what_is_installed_here() -> None:
    import cloudpickle

    assert f"cloudpickle=={cloudpickle.__version__}" in wheels.installed_here()


@needs_uv
def test_the_cache_has_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MOST_CACHED", 1)
    first, second = (wheels.resolve(Request((f"wool=={version}",)), TARGET) for version in ("1.0", "2.0"))
    assert not first.path.exists()
    assert second.path.exists()


@needs_uv
@pytest.mark.parametrize(
    ("tag", "machine", "libc"),
    [
        ("py3-none-any", "", ""),
        ("cp312-cp312-manylinux_2_17_x86_64", "x86_64", "glibc 2.17"),
        ("cp312-abi3-manylinux2010_x86_64", "x86_64", "glibc 2.12"),
        ("cp312-cp312-linux_x86_64", "x86_64", "glibc 2.28"),
    ],
)
def test_it_says_for_which_machines_it_is(folder: Path, tag: str, machine: str, libc: str) -> None:
    wheel(folder, "iron", "1.0", {"iron.py": ""}, tag=tag)
    note = json.loads(content(wheels.resolve(Request(("iron", "wool")), TARGET))[NOTE])
    assert note == {"python": "3.12", "machine": machine, "libc": libc}


@needs_uv
@pytest.mark.usefixtures("folder")
def test_for_musl() -> None:
    found = wheels.resolve(Request(("wool",)), Target("3.12", "x86_64-unknown-linux-musl"))
    assert json.loads(content(found)[NOTE])["libc"] == ""
