"""A relay between a link over TCP and its server, which can be told to fail."""

import select
import socket
import socketserver
import threading


class Relay(socketserver.ThreadingTCPServer):
    """Passes bytes on. What the server says is passed on, held back, or lost: then the connection ends, too."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.to = ("127.0.0.1", port)
        self.fault = ""
        self.failed = threading.Event()  # the fault has been seen
        super().__init__(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def fail(self, fault: str) -> None:
        """From now on "hold" or "lose" what the server says; or "" for nothing."""
        self.failed.clear()
        self.fault = fault

    def stop(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        with socket.create_connection(self.server.to) as far:
            other = {far: self.request, self.request: far}
            while True:
                for ready in select.select(list(other), [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is far and self.server.fault:
                        self.server.failed.set()
                        if self.server.fault == "lose":
                            return
                    else:
                        other[ready].sendall(data)
