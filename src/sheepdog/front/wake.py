"""How a program that waits for a server is woken, and wakes it: see values/wakeup.py."""

from __future__ import annotations

import select
import socket
import time

from ..values.wakeup import HERE, LISTEN, LOOK, REMEMBERED


class WakeUp:
    """The end of a program that waits for a server. Any thread may call wake and look; one thread waits."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HERE, 0))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.listening = 0.0

    def wake(self) -> None:
        """Let wait return now."""
        self._send(b"", self.address)

    def look(self, port: int | None) -> None:
        """Let the server at this port look into the database now."""
        if port:
            self._send(LOOK, (HERE, port))

    def wait(self, port: int | None, seconds: float | None) -> None:
        """Return when somebody wakes this program, or after this time; None is without end."""
        now = time.monotonic()
        if port and now - self.listening > REMEMBERED / 3:
            self.listening = now
            self._send(LISTEN, (HERE, port))
        if select.select([self.socket], [], [], seconds)[0]:
            try:
                while True:
                    self.socket.recv(64)
            except OSError:  # no more of them; or the server's port is closed
                pass

    def forget(self) -> None:
        """Say again that this program listens: there is another server."""
        self.listening = 0.0

    def close(self) -> None:
        """Give the port back."""
        self.socket.close()

    def _send(self, what: bytes, address: tuple[str, int]) -> None:
        try:
            self.socket.sendto(what, address)
        except OSError:  # a hint was lost
            pass
