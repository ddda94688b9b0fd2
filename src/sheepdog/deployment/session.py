"""A session: a command on a host that goes on, with pipes to its standard input and from its standard output."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence

from ..errors import HostError
from . import frame
from .commands import kill, text_of

PIECE = 65536
MOST_WORDS = 1000


class Session:
    """One that an ssh carries. close() ends it.

    What comes is to be read from the descriptor output, behind what early holds of it; what is written to the
    descriptor input goes there.
    """

    def __init__(self, argv: Sequence[str], host: str) -> None:
        self.host = host
        self.early = b""
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (it is open as long as the session)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=self._words, start_new_session=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.input = self._process.stdin
        self.output = self._process.stdout

    def begin(self, mark: int, input: bytes, timeout: float) -> None:
        """Wait until the command has begun, by what its frame says; give it its first input."""
        deadline = time.monotonic() + timeout
        self.input.write(frame.opening(mark) + input)
        self.input.flush()
        came = b""
        wait = select.poll()
        wait.register(self.output, select.POLLIN)
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not wait.poll(1000 * left):
                raise HostError(f"a session on {self.host} took longer than {timeout:g} s to begin")
            piece = self.output.read1(PIECE)  # type: ignore[attr-defined]
            came += piece
            inner = frame.inside(mark, came)
            if inner is not None:
                self.early = inner
                return
            if not piece:
                raise HostError(f"a session on {self.host} did not begin: {self.words() or 'it said nothing'}")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def words(self) -> str:
        """Return the end of what it has written to its standard error, but for our own marks."""
        words = os.pread(self._words.fileno(), os.fstat(self._words.fileno()).st_size, 0)  # ssh writes at the offset
        lines = [line for line in text_of(words).split("\n") if not frame.is_mark(line)]
        return "\n".join(lines).strip()[-MOST_WORDS:]

    def close(self) -> None:
        """End it."""
        kill(self._process)
        for stream in (self.input, self.output, self._words):
            try:
                stream.close()
            except OSError:  # what was to be written cannot be any more
                pass
        self._process.wait()
