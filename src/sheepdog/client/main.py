"""The program: runs one worker, from its files to its exit status."""

import functools
import json
import os
import socket
import sys
import time
import traceback

from .link import Over, Refused, make_link
from .packages import folders_of, look, misfit
from .parent.server import Server
from .parent.signals import Signals
from .parent.worker import Worker
from .processes import adopt_orphans
from .threads import cpus_of, pool_sizes


def work(directory: str, element: str, start: float) -> int:
    """Run a worker; return its exit status."""
    signals = Signals()
    signals.install()
    adopt_orphans()
    umask = os.umask(0o077)
    with open(os.path.join(directory, "secret.json"), encoding="utf-8") as file:
        secret = dict(json.load(file), directory=directory, umask=umask)
    host = socket.gethostname()
    worker, array = os.urandom(16).hex(), secret.get("array", 1)
    log = functools.partial(write, worker[:8])
    log("on %s, Python %s, request %d" % (host, sys.version.split()[0], secret["request"]))
    set_variables(secret.get("cpus"), secret.get("env", {}))
    try:
        link = make_link(secret)
        signals.interrupt = link.interrupt
        about = {"worker": worker, "host": host, "pid": os.getpid(), "element": element, "array": array}
        server = Server(link, about, secret, log)
        try:
            settings, function = server.join(signals)
            brought = folders_of(directory, settings.get("brought", ()))
            gone = [folder for folder in brought if not os.path.isdir(folder)]
            if gone:
                settings, function = server.join(signals, {"gone": gone[0]})
            for text in filter(None, map(misfit, brought)):
                settings, function = server.join(signals, {"misfit": text})
            if settings.get("packages"):
                lacking, others = look(settings["packages"], brought)
                if lacking:
                    settings, function = server.join(signals, {"lacking": lacking, "others": others})
                server.others = others
            reason = Worker(server, dict(secret, host=host, brought=brought), settings, function, signals, start).run()
        finally:
            link.close()
    except Over as over:
        log("ends: %s" % over)
    except Refused as error:
        log("ends: %s" % error)
        return 1
    else:
        log("ends: %s" % reason)
    return 0


def set_variables(cpus: "int | None", env: "dict[str, str]") -> None:
    """Set the environment variables of the tasks: thread pools are as large as the worker, unless said otherwise."""
    for name, value in pool_sizes(cpus or cpus_of(os.environ)).items():
        os.environ.setdefault(name, value)
    os.environ.update(env)


def write(worker: str, text: str) -> None:
    """Write a line to the scheduler's output file."""
    try:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), "worker %s: %s" % (worker, text), flush=True)
    except OSError:  # a full disk is no reason not to compute
        pass


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
