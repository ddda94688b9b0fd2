"""uv: the program that fetches Pythons which can be put anywhere, for any platform, from where its settings say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from ..errors import ConfigError
from ..values import account

TIMEOUT = 900.0
REMEDY = (
    "name an archive or a folder of a CPython with the option python, or a Python of the host with the option shell"
)


def program() -> str:
    """Return the path of uv: the package's, else that of PATH; empty if there is none."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv") or ""


def request(version: str, machine: str, libc: str) -> str:
    """Return what uv calls a CPython of this version for a platform of Linux."""
    machine = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7"}.get(machine, machine)
    return f"cpython-{version}-linux-{machine}-{libc}"


def install(version: str, machine: str, libc: str) -> Path:
    """Return the folder of a CPython for a platform; it is fetched unless it has been.

    libc is gnu or musl. Raises ConfigError, with uv's words, if it cannot be had.
    """
    place = account.cache("uv-pythons")
    if found := _newest(place, version, machine, libc):
        return found
    wanted = request(version, machine, libc)
    uv = program()
    if not uv:
        raise ConfigError(
            f"{wanted} is to be brought along, and there is no uv here to fetch it: `pip install uv`, or {REMEDY}"
        )
    settings = {"UV_PYTHON_INSTALL_DIR": str(place), "UV_PYTHON_INSTALL_BIN": "0", "UV_NO_PROGRESS": "1"}
    try:
        done = subprocess.run(
            [uv, "python", "install", wanted],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"`uv python install {wanted}` does not end well: {error}. Try again, or {REMEDY}") from error
    words = done.stdout.decode(errors="replace").strip()
    found = _newest(place, version, machine, libc)
    if done.returncode or found is None:
        raise ConfigError(
            f"`uv python install {wanted}` failed: {words[-1000:] or 'it says nothing'} (uv's own settings say "
            f"from where it fetches, such as UV_PYTHON_INSTALL_MIRROR). Else {REMEDY}"
        )
    return found


def _newest(place: Path, version: str, machine: str, libc: str) -> Path | None:
    """Return the folder of the newest of a version that is there."""
    head, tail = request(f"{version}@", machine, libc).split("@")
    pattern = re.compile(rf"{re.escape(head)}(?:\.(\d+))?{re.escape(tail)}")
    found = [(int(match[1] or 0), path) for path in place.glob("cpython-*") if (match := pattern.fullmatch(path.name))]
    return max(found)[1] if found else None
