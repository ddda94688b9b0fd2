"""A program run here: its input and output, a limit of time, and short words for it when it fails."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import CommandFailed, HostError


def execute(
    argv: Sequence[str], input: bytes, timeout: float, what: str, directory: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of this machine, away from the terminal; if it is not done in time, end it with its children."""
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=directory, start_new_session=True) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise HostError(f"{what} took longer than {timeout:g} s and was given up") from None
            raise
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)


def output_of(done: subprocess.CompletedProcess[bytes], what: str, host: str) -> bytes:
    """Return what a program wrote to its standard output; CommandFailed if it did not end with 0."""
    if done.returncode != 0:
        status = done.returncode if done.returncode > 0 else 128 - done.returncode  # a signal, as shells say it
        raise command_failed(what, host, status, done.stdout, done.stderr)
    return done.stdout


def command_failed(what: str, host: str, status: int, output: bytes, errors: bytes) -> CommandFailed:
    """Return the error of a command that ended so."""
    words = end_of(text_of(errors))
    return CommandFailed(f"{what} on {host} failed with status {status}: {words}", status, output, errors)


def short(command: Sequence[str]) -> str:
    """Return a command as a text for messages, cut if it is long."""
    text = shlex.join(command)
    return f"`{text}`" if len(text) <= 120 else f"`{text[:110]}...`"


def text_of(data: bytes) -> str:
    """Return what a program wrote as a text."""
    return data.decode(errors="replace")


def end_of(words: str) -> str:
    """Return the end of what a program wrote to its standard error, where the reason is."""
    return words.strip()[-1000:] or "it said nothing"
