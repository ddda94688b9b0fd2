"""Start one host, and run programs on it."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The first process of a host. Orphans become its children: with CHLD ignored the kernel reaps them. It ends when
# its input is closed, which also happens when the process that started it dies; all of the host ends with it.
FIRST = 'hostname "$1" && ip link set lo up && echo ready && exec env --ignore-signal=CHLD cat >/dev/null'
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HostFailed(RuntimeError):
    """A host did not start, or a command on it failed."""


class Program(subprocess.Popen[str]):
    """A program on a host. Signals reach the program itself, not the nsenter that waits for it."""

    def send_signal(self, sig: int) -> None:
        children: list[int] = []
        while not children and self.poll() is None:
            children = children_of(self.pid)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, sig)


class Host:
    """A machine of its own: network, name, mounts and processes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = 0
        self._first: subprocess.Popen[str] | None = None

    def start(self) -> None:
        namespaces = ["--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._first = subprocess.Popen(
            ["unshare", *namespaces, "--", "sh", "-c", FIRST, "sh", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests, which then take the cluster down in order
        )
        assert self._first.stdout
        line = self._first.stdout.readline()
        if line != "ready\n":
            raise HostFailed(f"{self.name} does not start: {line.strip()}")
        [self.pid] = children_of(self._first.pid)

    def stop(self) -> None:
        """End every process of the host, at once, as a power cut does."""
        if self._first is None:
            return
        if self.pid and self._first.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        for pipe in (self._first.stdin, self._first.stdout):
            assert pipe
            pipe.close()
        self._first.wait()
        self._first, self.pid = None, 0

    def popen(
        self,
        command: Sequence[str | os.PathLike[str]],
        user: str = "root",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "",
        **options: Any,
    ) -> Program:
        """Start a command; options are those of subprocess.Popen. Without stdin it has none."""
        options.setdefault("stdin", subprocess.DEVNULL)
        ours = {**os.environ, "PATH": PATH}  # that of the tests leads to directories that the host does not have
        return Program(entering(self.pid, command, user, env, cwd), text=True, env=ours, **options)

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        user: str = "root",
        *,
        input: str = "",
        check: bool = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; HostFailed if check is set and it failed, TimeoutExpired if it took too long."""
        pipe = subprocess.PIPE
        with self.popen(command, user, env, cwd, stdin=pipe, stdout=pipe, stderr=pipe) as program:
            try:
                output, errors = program.communicate(input, timeout)
            except BaseException:
                program.kill()
                raise
        if check and program.returncode:
            line = shlex.join(os.fspath(word) for word in command)
            raise HostFailed(f"{user}@{self.name}: {line} ended with {program.returncode}: {errors}{output}")
        return subprocess.CompletedProcess(list(command), program.returncode, output, errors)


def entering(
    pid: int,
    command: Sequence[str | os.PathLike[str]],
    user: str = "root",
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] = "",
) -> list[str]:
    """The command line that runs a command on the host with this first process.

    It starts in the user's home unless cwd says otherwise, with a login's environment and umask; env adds to it.
    """
    return [
        *("nsenter", f"--target={pid}", "--net", "--uts", "--mount", "--pid", "--"),
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env", "--"),
        *("env", *(f"{name}={value}" for name, value in (env or {}).items())),
        *("sh", "-c", 'umask 022 && cd "${0:-$HOME}" && exec "$@"', os.fspath(cwd)),
        *(os.fspath(word) for word in command),
    ]


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
