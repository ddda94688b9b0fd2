"""The program: runs one worker, from its files to its exit status."""

import json
import os
import socket
import sys
import time
import traceback
import uuid

from .link.https import Line, Over, Refused
from .parent.signals import Signals
from .parent.worker import Worker
from .processes import adopt_orphans


def work(directory: str, element: str, start: float) -> int:
    """Run a worker; return its exit status."""
    signals = Signals()
    signals.install()
    adopt_orphans()
    umask = os.umask(0o077)
    with open(os.path.join(directory, "secret.json"), encoding="utf-8") as file:
        secret = dict(json.load(file), directory=directory, umask=umask)
    host = socket.gethostname()
    about = {"worker": uuid.uuid4().hex, "host": host, "pid": os.getpid(), "element": element}
    line = Line(secret, dict(about, array=secret.get("array", 1)), signals)
    line.log("on %s, Python %s, request %d" % (host, sys.version.split()[0], secret["request"]))
    try:
        settings, function = line.join()
        worker = Worker(line, settings, function, start)
        worker.run()
    except Over as reason:
        line.log("ends: %s" % reason)
    except Refused as error:
        line.log("ends: %s" % error)
        return 1
    else:
        line.log("ends: %s" % (worker.leaving.reason if worker.leaving is not None else "nothing left to do"))
    return 0


def main() -> None:
    """Run a worker. It ends with 0 or 1, never with a status that means something to a scheduler."""
    status = 1
    try:
        directory, element = sys.argv[1:]
        status = work(directory, element, time.monotonic())
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # a full disk, of which Python would make the status 120
        pass
    os._exit(status)
