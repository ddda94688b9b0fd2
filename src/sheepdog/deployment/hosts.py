"""A machine we can run commands on: what each kind has in common, this one, and which a name means."""

import subprocess
from collections.abc import Sequence
from typing import Protocol

from ..errors import HostError
from ..values import account
from .commands import execute, output_of, short
from .ssh import SSHHost


class Host(Protocol):
    """A machine we can run commands on."""

    name: str

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        """Run a command in the home directory and return what it wrote to its standard output.

        Raises CommandFailed if it ends with another status than 0, HostError if the machine cannot be reached or
        the command takes longer than timeout (seconds).
        """


class LocalHost:
    """This machine. Ctrl-C in the terminal does not reach the commands."""

    name = "this machine"

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        home = account.home()
        try:
            done = execute(command, input, timeout, f"{short(command)} on {self.name}", home)
        except OSError as error:
            if str(error.filename) == str(home):
                raise HostError(f"cannot use the home directory {home}: {error.strerror}") from error
            status = 127 if isinstance(error, FileNotFoundError) else 126  # a shell's
            words = f"{error.filename}: {error.strerror}".encode()
            done = subprocess.CompletedProcess(command, status, b"", words)
        return output_of(done, short(command), self.name)


def make_host(
    name: str | None,
    port: int | None = None,
    user: str | None = None,
    keyfile: str | None = None,
    interactive: bool = True,
) -> Host:
    """Give the host of that name; without a name, this machine."""
    return LocalHost() if name is None else SSHHost(name, port, user, keyfile, interactive)
