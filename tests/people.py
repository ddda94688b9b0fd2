"""Users of this machine besides the one who tests, in a place where all may write, as /tmp. Only root can be them."""

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.local import ROOT

PATH = os.pathsep.join([str(ROOT / "src"), str(ROOT), *(path for path in sys.path if "site-packages" in path)])
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can be several users")


class Person:
    """A user, with a home of their own. uid is a number that nobody else has."""

    def __init__(self, uid: int, place: Path) -> None:
        self.uid = uid
        self.place = place
        self.home = place / f"home_{uid}"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, uid, uid)

    def start(self, code: str, *arguments: object, **environ: str) -> subprocess.Popen[str]:
        """Start a program of theirs in their home; its arguments are sys.argv[1:]."""
        return subprocess.Popen(
            [usable_python(), "-c", code, *map(str, arguments)],
            cwd=self.home,
            env={"PATH": os.defpath, "PYTHONPATH": PATH, "HOME": str(self.home), **environ},
            user=self.uid,
            group=self.uid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0o022,
        )

    def run(self, code: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program of theirs."""
        with self.start(code, *arguments, **environ) as process:
            output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess([], process.returncode, output, errors)

    def processes(self, pattern: str = "") -> list[int]:
        """Return their processes, or those with this in their command line."""
        done = subprocess.run(["pgrep", "-u", str(self.uid), "-f", pattern], capture_output=True, text=True)
        return [int(pid) for pid in done.stdout.split()]

    def leave(self) -> None:
        """End what runs of theirs."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@functools.cache
def usable_python() -> str:
    """Return a Python that other users can run, with what is installed for this one."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"):
        with suppress(OSError):
            command = [python, "-c", "import cryptography, sheepdog, uvicorn"]
            done = subprocess.run(command, env={"PYTHONPATH": PATH}, cwd="/", user=65534, capture_output=True)
            if done.returncode == 0:
                return python
    pytest.skip("other users cannot run this Python, or not read what is installed for it")


@contextmanager
def people(count: int = 2) -> Iterator[list[Person]]:
    """Some of them."""
    place = Path(tempfile.mkdtemp(prefix="people-", dir="/tmp"))  # pytest's own directory is closed to others
    first = random.randrange(100_000, 1_000_000)
    present = []
    try:
        place.chmod(0o1777)
        present += [Person(first + number, place) for number in range(count)]
        yield present
    finally:
        for person in present:
            person.leave()
        shutil.rmtree(place)
