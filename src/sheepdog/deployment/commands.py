"""A program run here: its input and output, a limit of time, and short words for it when it fails."""

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from ..errors import CommandFailed, HostError

PIPED = 4096  # bytes of an input that goes through a pipe, which holds as much at least
LOOK = 0.5  # seconds between two looks at what a program has printed


def execute(
    argv: Sequence[str],
    input: bytes,
    timeout: float,
    what: str,
    directory: Path | None = None,
    ended: Callable[[bytes], bool] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of this machine, away from the terminal; if it is not done in time, end it with its children.

    If its output or its errors tell that what it is for has ended, it is given one more look to end by itself: others
    may hold its pipes.
    """
    pipe = subprocess.PIPE
    deadline = time.monotonic() + timeout
    with (
        _file_of(input) as file,
        subprocess.Popen(
            argv, stdin=file or pipe, stdout=pipe, stderr=pipe, cwd=directory, start_new_session=True
        ) as process,
    ):
        try:
            output, errors = _communicate(process, b"" if file else input, deadline, ended)
        except BaseException as error:
            kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise HostError(f"{what} took longer than {timeout:g} s and was given up") from None
            raise
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)


@contextlib.contextmanager
def _file_of(input: bytes) -> Iterator[IO[bytes] | None]:
    """Give an input as a file, None for one that a pipe holds.

    What is written to a pipe when communicate has timed out once, Python 3.11 does not go on with.
    """
    if len(input) <= PIPED:
        yield None
        return
    with tempfile.TemporaryFile() as file:
        file.write(input)
        file.seek(0)
        yield file


def _communicate(
    process: subprocess.Popen[bytes], input: bytes, deadline: float, ended: Callable[[bytes], bool] | None
) -> tuple[bytes, bytes]:
    rest: bytes | None = input
    has_ended = False
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            return process.communicate(rest, min(LOOK, left) if ended else left)
        except subprocess.TimeoutExpired as error:
            rest = None  # all of it has been written: a pipe holds that much, and more is given as a file
            output, errors = error.output or b"", error.stderr or b""
            if has_ended:
                kill(process)
                return output, errors
            has_ended = ended is not None and (ended(output) or ended(errors))
            if not has_ended and left <= LOOK:
                raise


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a program that was started in a session of its own, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
