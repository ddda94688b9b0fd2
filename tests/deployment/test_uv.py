"""uv: what is asked of it, and what becomes of its words. A real one, if it is installed, takes from a place here."""

import hashlib
import json
import os
import platform
import shutil
import stat
import sys
import tarfile
from pathlib import Path

import pytest

from sheepdog.deployment import brought, uv
from sheepdog.errors import ConfigError
from tests.faults import fault


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a uv on PATH; none is installed as a package."""
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin/uv"


def write(fake: Path, script: str) -> None:
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)


def test_what_is_asked(home: Path, fake: Path) -> None:
    write(fake, 'echo "$@" >"$HOME/asked"; mkdir -p "$UV_PYTHON_INSTALL_DIR/cpython-3.13.2-linux-x86_64-gnu"')
    there = home / ".cache/sheepdog/uv-pythons/cpython-3.13.2-linux-x86_64-gnu"
    assert uv.install("3.13", "x86_64", "gnu") == there
    assert (home / "asked").read_text() == "python install cpython-3.13-linux-x86_64-gnu\n"
    (home / "asked").unlink()
    assert uv.install("3.13", "x86_64", "gnu") == uv.install("3.13.2", "x86_64", "gnu") == there
    assert not (home / "asked").exists()


def test_the_newest_is_taken(home: Path, fake: Path) -> None:
    for name in ("3.13.2", "3.13.11", "3.13", "3.14.0"):
        (home / f".cache/sheepdog/uv-pythons/cpython-{name}-linux-aarch64-musl").mkdir(parents=True)
    assert uv.install("3.13", "aarch64", "musl").name == "cpython-3.13.11-linux-aarch64-musl"


@fault(
    "Pythons",
    "uv cannot fetch the Python that is to be brought along, or is not there",
    promise="that is said in its words, with what else can be done",
)
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'error: Failed to download' >&2; exit 2", "failed: error: Failed to download (uv's own settings say"),
        ("exit 0", "failed: it says nothing"),
        (None, "there is no uv here to fetch it: `pip install uv`"),
    ],
)
def test_it_fails(home: Path, fake: Path, script: str | None, words: str) -> None:
    if script:
        write(fake, script)
    with pytest.raises(ConfigError) as caught:
        uv.install("3.13", "x86_64", "gnu")
    assert words in str(caught.value)
    assert str(caught.value).endswith(uv.REMEDY)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a Python for Linux is made of the one that runs")
def test_a_real_uv(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings say from where it fetches: here it is a file, made of the Python that runs."""
    pytest.importorskip("uv")
    machine, version = os.uname().machine, platform.python_version()
    packed = brought.make(sys.base_prefix)
    archive = tmp_path / "python.tar.gz"
    with tarfile.open(packed.file) as tar, tarfile.open(archive, "w:gz") as install:
        for member in tar.getmembers():
            content = tar.extractfile(member) if member.isfile() else None
            member.name = f"python/{member.name}"
            install.addfile(member, content)
    shutil.rmtree(brought.cache())
    key = f"cpython-{version}-linux-{machine}-gnu"
    major, minor, patch = sys.version_info[:3]
    about = {
        "name": "cpython",
        "arch": {"family": machine, "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": major,
        "minor": minor,
        "patch": patch,
        "prerelease": "",
        "url": archive.as_uri(),
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "variant": None,
        "build": "20250101",
    }
    (tmp_path / "downloads.json").write_text(json.dumps({key: about}))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(tmp_path / "downloads.json"))
    found = uv.install(f"{major}.{minor}", machine, "gnu")
    assert found.name == key
    assert brought.make(str(found)).version.startswith(f"{major}.{minor}")
