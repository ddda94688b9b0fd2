"""Which Pythons a host has, and which is the best of them."""

import os
import stat
import sys
from pathlib import Path

import pytest

from sheepdog.client import describe_python
from sheepdog.deployment import LocalHost
from sheepdog.deployment.pythons import Found, Pythons, choose, look, parse, platform
from tests.faults import fault

OWN = describe_python()
VERSIONS = sorted(Path(sys.base_prefix).parent.glob("[23].*/bin/python"))


class Home:
    """A host whose shell finds what is put below a directory, and what Debian has."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.monkeypatch = monkeypatch
        for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "BASH_ENV"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(place))
        monkeypatch.setenv("PATH", f"{place}/path:/usr/bin:/bin")

    def put(self, name: str, script: str) -> None:
        file = self.place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def says(self, name: str, version: str, implementation: str = "cpython", magic: str = "00", real: str = "") -> None:
        """Put a program there that answers as a Python does."""
        path = str(self.place / name)
        facts = [implementation, version, magic, "x86_64", "glibc 2.17", path, real or path, "/prefix", ""]
        line = "\\t".join(["\\n", "sheepdog:python", "%s", "%s", *facts])
        self.put(name, f'printf "{line}\\n" "$6" "$7"')


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return Home(tmp_path, monkeypatch)


def test_real_ones_say_what_they_are(home: Home) -> None:
    (home.place / ".pyenv").mkdir()
    (home.place / ".pyenv/versions").symlink_to(VERSIONS[0].parents[2])
    found = look(LocalHost()).found
    there = {each.parent.parent.name for each in VERSIONS}
    assert there <= {each.version for each in found} | {"3.11.2"}
    [own] = [each for each in found if each.version == OWN["version"] and each.where == "home"]
    assert (own.implementation, own.magic) == (OWN["implementation"], OWN["magic"])
    assert own.machine == os.uname().machine
    assert all(each.usable == (each.version[0] == "3") for each in found)


def test_each_is_there_once_in_the_order_of_the_places(home: Home) -> None:
    for name in ("path/python3", ".local/bin/python3.12", ".local/share/uv/python/cpython-3.13/bin/python3.13"):
        home.says(name, "3.9.1")
    home.says("miniconda3/envs/mine/bin/python3", "3.9.1")
    home.says("path/python3.9", "3.9.1", real="/the/same")
    home.says(".pyenv/versions/a/bin/python3", "3.9.1", real="/the/same")
    home.put("path/python3.9-config", "echo no >&2")
    found = [(each.where, each.path.removeprefix(f"{home.place}/")) for each in look(LocalHost()).found]
    assert [each for each in found if each[0] not in ("system", "/opt") and not each[1].startswith("/")] == [
        ("PATH", "path/python3.9"),
        ("PATH", "path/python3"),
        ("home", ".local/bin/python3.12"),
        ("home", ".local/share/uv/python/cpython-3.13/bin/python3.13"),
        ("home", "miniconda3/envs/mine/bin/python3"),
    ]


@fault("Pythons", "a Python on the head node hangs, fails, or is none", promise="the others are found all the same")
def test_one_that_hangs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheepdog.deployment.pythons._SCRIPT", _impatient())
    home.put("path/python3", "sleep 1000")
    home.put("path/python3.8", "exit 3")
    home.put("path/python3.9", "echo; printf '\\tsheepdog:python\\tand more'")
    home.says(".local/bin/python3", "3.9.1")
    assert [each.path for each in look(LocalHost()).found if each.path.startswith(str(home.place))] == [
        str(home.place / ".local/bin/python3")
    ]


def _impatient() -> str:
    from sheepdog.deployment import pythons

    return pythons._SCRIPT.replace(f"timeout -k 1 {pythons.PATIENCE}", "timeout -k 1 2")


def test_no_more_are_asked_than_needed(home: Home) -> None:
    home.says("path/python3", "3.13.1", magic="aa")
    home.put(".local/bin/python3", f"touch {home.place}/asked")
    enough = {"implementation": "cpython", "magic": "aa"}
    assert look(LocalHost(), enough=enough).found[0].version == "3.13.1"
    assert not (home.place / "asked").exists()
    look(LocalHost(), enough={**enough, "magic": "bb"})
    assert (home.place / "asked").exists()


def test_files_of_the_home_directory_are_not_imported(home: Home) -> None:
    for name in ("os", "ssl", "json", "socket", "importlib"):
        (home.place / f"{name}.py").write_text("raise SystemExit")
    assert any(each.path.startswith("/usr/bin/") for each in look(LocalHost()).found) == os.path.exists(
        "/usr/bin/python3"
    )


# --- what the user's lines of setup lead to, and modules


def test_what_setup_leads_to_is_first(home: Home) -> None:
    home.says("chosen/python3", "3.8.1")
    home.says("path/python3", "3.13.1", magic=OWN["magic"])
    seen = look(LocalHost(), ["echo noise", f"PATH={home.place}/chosen:$PATH"])
    assert seen.found[0][:3] == ("setup", "cpython", "3.8.1")
    assert seen.setup == f"{home.place}/chosen/python3"
    assert choose(seen.found, lambda _: True, OWN) == seen.found[0]
    chosen = choose(seen.found, lambda python: python["version"] == "3.13.1", OWN)
    assert chosen is not None
    assert chosen.path == f"{home.place}/path/python3"


@pytest.mark.parametrize("line", ["false", "exit 0", "no-such-program"])
def test_setup_that_fails_there_says_nothing(home: Home, line: str) -> None:
    assert look(LocalHost(), [line, "true"]).setup is None


def test_modules(home: Home) -> None:
    home.says("modules/python/3.12.4/python3", "3.12.4")
    (home.place / "path").mkdir()
    (home.place / "path/sh").symlink_to("/bin/bash")  # others let go of functions in the environment
    avail = "/opt/modules:\\npython/3.12.4(default)\\npython/3.99\\ngcc/12\\nstata\\n"
    home.monkeypatch.setenv("MODULEPATH", "/opt/modules")
    home.monkeypatch.setenv(
        "BASH_FUNC_module%%",
        f"() {{ case $1 in load) [ -d {home.place}/modules/$2 ] && PATH={home.place}/modules/$2:$PATH;;"
        f" *) printf '{avail}' >&2;; esac; }}",
    )
    [found] = [each for each in look(LocalHost()).found if each.module]
    assert (found.module, found.version) == ("python/3.12.4", "3.12.4")


# --- the choice


def python(
    version: str, magic: str = "00", implementation: str = "cpython", where: str = "PATH", lacks: str = ""
) -> Found:
    return Found(where, implementation, version, magic, "x86_64", "", f"/{where}/{version}", lacks)


@pytest.mark.parametrize(
    ("there", "best"),
    [
        ([python("3.12.1"), python("3.11.2", "aa"), python("3.11.9", "aa")], "3.11.2"),
        ([python("3.9.1"), python("3.12.1"), python("3.12.9")], "3.12.1"),
        ([python("3.10.1", implementation="pypy"), python("3.6.8")], "3.6.8"),
        ([python("3.10.1", implementation="pypy")], "3.10.1"),
        ([python("3.5.9"), python("2.7.18"), python("3.11.2", "aa", lacks="No module named ssl")], None),
        ([], None),
    ],
)
def test_the_best(there: list[Found], best: str | None) -> None:
    found = choose(there, lambda _: True, {"implementation": "cpython", "magic": "aa"})
    assert (found and found.version) == best


def test_only_what_fits() -> None:
    there = [python("3.11.2", "aa"), python("3.9.1")]
    assert (
        choose(there, lambda python: python["magic"] == "00", {"implementation": "cpython", "magic": "aa"}) == there[1]
    )
    assert choose(there, lambda _: False, {}) is None


def test_how_they_are_shown() -> None:
    there = (python("3.11.2"), python("2.7.18", where="home"), python("3.7.1", lacks="no ssl", implementation="pypy"))
    assert repr(Pythons("fear", "Linux", "x86_64", "glibc 2.36", there)).splitlines() == [
        "Pythons on fear (Linux x86_64 glibc 2.36):",
        "  PATH  /PATH/3.11.2  CPython 3.11.2",
        "  home  /home/2.7.18  CPython 2.7.18  too old",
        "  PATH  /PATH/3.7.1   PyPy 3.7.1      not of use: no ssl",
    ]
    none = Pythons("fear", "Linux", "x86_64", "musl", ())
    assert (repr(none), none.named()) == ("no Python on fear (Linux x86_64 musl)", "no Python")


def test_an_answer_with_noise() -> None:
    assert parse("Welcome\n\tsheepdog:python\tx\n\tsheepdog:system\tLinux\n", "fear") == Pythons("fear", "", "", "", ())


def test_the_platform() -> None:
    seen = platform(LocalHost())
    assert (seen.system, seen.machine, seen.found) == (os.uname().sysname, os.uname().machine, ())
    assert seen.libc == (os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else "")
