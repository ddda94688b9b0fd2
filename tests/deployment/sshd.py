"""An sshd of a test's own, and what the tests of hosts have in common."""

import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sheepdog.deployment import SSHHost

Far = Callable[..., SSHHost]


def key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


@dataclass(frozen=True)
class Sshd:
    """A running sshd, and a client's configuration in which it is called `far`."""

    port: int
    log: Path
    config: Path
    directory: Path

    def logins(self) -> int:
        return self.log.read_text().count("Accepted publickey")

    def client(self, name: str, text: str) -> str:
        """Another client's configuration, for what goes before the usual one: the first value counts."""
        path = self.directory / f"{name}.conf"
        path.write_text(f"Host far*\n{text}\n" + self.config.read_text())
        return str(path)


def sleeping(pid: Path) -> list[str]:
    """A command that does not end, and leaves its process's number in a file."""
    return ["sh", "-c", 'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 1000', "sh", str(pid)]


def end(pid: Path) -> None:
    """End what sshd does not: a command whose connection is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGKILL)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def locked(sshd: Sshd) -> str:
    """A configuration whose only key has a passphrase."""
    config = Path(sshd.client("locked", f"IdentityFile {sshd.directory}/locked_key"))
    config.write_text(config.read_text().replace(f"IdentityFile {sshd.directory}/user_key", ""))
    return str(config)


def master(host: SSHHost) -> int:
    argv = [*host._prefix, "-O", "check", host.name]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    return int(said.partition("pid=")[2].partition(")")[0])
