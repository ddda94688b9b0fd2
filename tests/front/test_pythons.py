"""Which Python the workers of a request have: what the option python says, and what the user is told of it."""

import os
import re
import sys
from pathlib import Path

import pytest

import sheepdog
from sheepdog.config import Config
from sheepdog.config.options import Interpreter, Options
from sheepdog.deployment import LocalHost, brought
from sheepdog.front import pythons
from sheepdog.front.dispatch import options_of
from sheepdog.storage import Storage
from tests.faults import fault

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = ".".join(map(str, sys.version_info[:3]))
DB = "./sheepdog.sqlite"


def which() -> list[str]:
    return [sys.executable, sys.prefix, str(sys.flags.isolated)]


def divide(a: int, b: int) -> float:
    return a / b


def stored(request_id: int = 1) -> Options:
    with Storage(DB) as storage:
        return Options.read(storage.get_request(request_id).options)


def always(_: object) -> bool:
    return True


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pythons, "_seen", {})


def test_local_processes_have_the_one_that_runs_here(place: Path) -> None:
    assert sheepdog.map(which, [()])[0][0] == sys.executable
    assert stored().interpreter == Interpreter()


@pytest.mark.skipif(sys.platform != "linux", reason="a Python for Linux is made of the one that runs")
def test_one_that_is_brought_along(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = {"python": sys.base_prefix}
    [found] = sheepdog.map(which, [()], config)
    [name] = [path.name for path in (place / "home/.sheepdog/pythons").iterdir()]
    prefix = str(place / "home/.sheepdog/pythons" / name)
    assert found == [f"{prefix}/bin/python3", prefix, "1"]
    said = re.search(r"^sheepdog: (workers run on .*)$", capfd.readouterr().err, re.MULTILINE)
    assert said is not None
    where = f".sheepdog/pythons/{name}"
    assert re.fullmatch(
        rf"workers run on CPython {VERSION}, brought along to this machine:{where} "
        rf"\(\d+\.\d MB sent in \d+\.\d s; to remove it: rm -rf {Path.home()}/{where}\)",
        said[1],
    )
    assert stored().command == f'"$HOME"/{where}/bin/python3 -I'
    assert sheepdog.map(which, [()], config) == [found]
    assert " s, as it is there already; to remove it: " in capfd.readouterr().err
    request_id = sheepdog.map_async(divide, [(1, 0)], config)
    sheepdog.get_results(request_id, DB)
    before = stored(request_id)
    assert sheepdog.retry(request_id, DB) == 1
    assert stored(request_id).interpreter == before.interpreter != Interpreter()


def test_one_that_is_found_is_noted_with_the_request(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    [[executable, *_]] = sheepdog.map(which, [()], {"python": VERSION})
    assert stored().interpreter.command == executable
    assert f"workers run on this machine:{executable} (CPython {VERSION})" in capfd.readouterr().err


@fault(
    "Pythons",
    "none of the version that the option python says is there, or it cannot load the function",
    promise="that is said before anything is stored or sent, with what there is",
)
def test_none_of_that_version(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheepdog.deployment.uv.program", lambda: "")
    with pytest.raises(ValueError, match=r"^there is no CPython 3\.99 on this machine, but CPython .*pip install"):
        sheepdog.map(which, [()], {"python": "3.99"})
    with pytest.raises(ValueError, match=r"python is '/nowhere': there is no such file or folder here"):
        sheepdog.map(which, [()], {"python": "/nowhere"})
    with pytest.raises(ValueError, match=r"shell is 'x', a Python of the host, and python '3\.13'"):
        sheepdog.map(which, [()], {"python": "3.13", "shell": "x"})
    assert not Path(DB).exists()


def test_one_that_is_brought_must_load_the_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = brought.Brought("0" * 64, "3.99.1", os.uname().machine, "glibc 2.2", 1, "/x")
    monkeypatch.setattr(brought, "make", lambda _: other)
    options = options_of(Config(scheduler="local", python="/x"))
    assert pythons.equip(options, always).interpreter.brought == "0" * 64
    with pytest.raises(
        ValueError, match=r"python is '/x': CPython 3\.99\.1 cannot load the function, .*leave `python`"
    ):
        pythons.equip(options, lambda python: bool(python["magic"]))


def test_none_is_fetched_that_cannot_load_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is any looked for."""
    monkeypatch.setattr("sheepdog.deployment.uv.program", lambda: pytest.fail("it is asked for"))
    options = options_of(Config(scheduler="local", python="3.99"))
    with pytest.raises(ValueError, match=r"python is '3\.99': CPython 3\.99 cannot load .*into a module of your own"):
        pythons.equip(options, lambda python: bool(python["magic"]))


# --- what a host has


def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **facts: str) -> None:
    """Let a shell on this machine find one Python, which says this of itself."""
    said = {"name": "cpython", "version": "3.9.1", "magic": "00", **facts}
    path = tmp_path / "bin/python3"
    path.parent.mkdir()
    words = ["\\n", "sheepdog:python", "%s", "%s", *said.values(), "x86_64", "", str(path), str(path), "/", ""]
    line = "\\t".join(words)
    path.write_text(f'#!/bin/sh\necho >>{tmp_path}/asked\nprintf "{line}\\n" "$6" "$7"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))


def test_it_is_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, version="3.99.1")
    options = options_of(Config(scheduler="local", python="3.99"))
    for _ in range(3):
        found = pythons.equip(options, always)
        assert found.command == str(tmp_path / "bin/python3")
    assert (tmp_path / "asked").read_text() == "\n"
    assert found.interpreter.title == f"this machine:{tmp_path}/bin/python3 (CPython 3.99.1)"


def test_what_setup_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, version="3.99.1")
    config = Config(scheduler="gridengine", setup=(f"PATH={tmp_path}/bin:$PATH",))
    assert pythons.equip(Options(config), always).command == "python3"
    fails = Config(scheduler="gridengine", setup=("false",))
    assert pythons.equip(Options(fails), always).command == "python3"


@pytest.mark.parametrize(
    ("python", "facts", "why"),
    [
        ("auto", {"version": "3.99.1"}, "it cannot load the function"),
        ("auto", {"version": "3.5.1"}, "too old"),
        (MINOR, {"version": "3.99.1"}, f"it is no CPython {MINOR}"),
    ],
)
def test_why_what_setup_leads_to_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, facts: dict[str, str], why: str
) -> None:
    path = os.environ["PATH"]
    host(tmp_path, monkeypatch, **facts)
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{path}")
    config = Config(scheduler="gridengine", python=python, setup=(f"PATH={tmp_path}/bin:$PATH",))
    found = pythons.equip(Options(config), lambda python: str(python["version"]).startswith(MINOR))
    there = f"{tmp_path}/bin/python3 (CPython {facts['version']})"
    assert found.interpreter.title.endswith(f"), not on {there}, to which the lines of setup lead: {why}")


def test_pythons_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch)
    found = sheepdog.pythons({"scheduler": "local"})
    assert found.host == LocalHost.name
    assert found.found[0][:3] == ("PATH", "cpython", "3.9.1")
    assert f"  PATH    {tmp_path}/bin/python3" in str(found) or f"  PATH  {tmp_path}/bin/python3" in str(found)
    assert any(os.path.samefile(each.path, sys.executable) for each in found.found)


def test_none_fits_and_uv_brings_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "uv", None)
    uv = tmp_path / "bin/uv"
    uv.write_text("#!/bin/sh\necho no network >&2; exit 1\n")
    uv.chmod(0o755)
    config = Config(scheduler="gridengine")
    words = (
        f"there is no Python that can load the function on this machine, but CPython 3\\.9\\.1 .*cpython-{MINOR}-linux-"
    )
    with pytest.raises(ValueError, match=f"^{words}.*failed: no network"):
        pythons.equip(Options(config), lambda _: False)
