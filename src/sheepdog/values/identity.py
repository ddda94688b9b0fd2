"""Processes of this machine: a signature that no other process ever has, and whether one lives or is stopped.

Only while the process that made a request lives may its array job still be about to come.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

STATE, START = 0, 19  # of the fields of /proc/PID/stat behind the name


def sign() -> dict[str, Any]:
    """Return what tells this process from every other one, of this machine and after its next start too."""
    return {"boot": _boot(), "space": _space(), "pid": os.getpid(), "started": _started(os.getpid())}


def lives(signature: dict[str, Any]) -> bool | None:
    """Tell whether the process that signed so is alive; None if that cannot be seen from here."""
    if signature["boot"] != _boot():
        return False
    if signature["space"] != _space():
        return None  # of another container
    return _exists(signature["pid"]) and _started(signature["pid"]) == signature["started"]


def is_stopped(pid: int) -> bool:
    """Tell whether somebody has stopped a process: it lives, and does nothing until it is told to go on."""
    return _fields(pid)[STATE : STATE + 1] in (["T"], ["t"])


def _boot() -> str:
    """Return what names this run of the machine; without /proc its name, which may change."""
    return _read("/proc/sys/kernel/random/boot_id").strip() or platform.node()


def _space() -> str:
    """Return what names the space of process numbers: a container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process began, as the kernel counts; the number may belong to another one by now."""
    return "".join(_fields(pid)[START : START + 1])


def _fields(pid: int) -> list[str]:
    """Return what the kernel says of a process behind its name; nothing where there is no /proc."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
