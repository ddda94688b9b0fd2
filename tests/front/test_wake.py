"""A program that waits, and is woken."""

import socket
import threading
import time

from sheepdog.front.wake import WakeUp
from sheepdog.values.wakeup import HERE, LISTEN, LOOK

LONG = 30.0  # seconds: nobody waits so long unless a wake-up is lost


def test_wake() -> None:
    """Another thread's wake-up ends the waiting, also one that came before."""
    program = WakeUp()
    try:
        program.wake()
        began = time.monotonic()
        program.wait(None, LONG)
        timer = threading.Timer(0.05, program.wake)
        timer.start()
        program.wait(None, LONG)
        assert time.monotonic() - began < LONG
        timer.join()
        program.wait(None, 0.01)  # there is no third one
    finally:
        program.close()


def test_what_the_server_hears() -> None:
    """That it should look; and now and then, or if it is another one, that somebody listens."""
    program = WakeUp()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((HERE, 0))
        server.settimeout(LONG)
        port = server.getsockname()[1]
        program.look(None)  # there is no server yet
        for _ in range(3):
            program.wait(port, 0.0)
        program.look(port)
        program.forget()
        program.wait(port, 0.0)
        assert [server.recvfrom(64) for _ in range(3)] == [(said, program.address) for said in (LISTEN, LOOK, LISTEN)]
    program.look(port)  # nobody is there any more
    program.wait(port, 0.0)
    program.wait(port, 0.0)
    program.close()
