"""Python imports this when it starts, if this directory is on its path. Gives a server the faults it is to have.

kill=["stored", 5]    dies of SIGKILL after the commit of the fifth call that stored something, before its reply;
                      ["tasks", 5] the same with calls that leased tasks
synchronous="OFF"     what PRAGMA synchronous is set to, instead of FULL
busy=1.0              the seconds after which a locked database is an error, instead of 60
disk={"journal": PATH, "operations": 137}
                      every write and sync of the database is recorded, see power_loss.py; dies at the 137th
disk={"sync_seconds": 0.5}
                      how much longer each sync takes
"""

import contextlib
import functools
import json
import os
import signal
import sqlite3
import sys


def die_before_the_reply(kind, number):
    from sheepdog.server.decide import exchange
    from sheepdog.storage import Storage

    handle, transaction = exchange.handle, Storage.transaction
    replies = []

    def counted_handle(service, call):
        reply = handle(service, call)
        if reply.header.get(kind):
            replies.append(reply)
        return reply

    @contextlib.contextmanager
    def deadly_transaction(self):
        outermost = not self.db.in_transaction
        with transaction(self):
            yield
        if outermost and len(replies) >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    exchange.handle, Storage.transaction = counted_handle, deadly_transaction


def connect_otherwise(synchronous, busy):
    class Connection(sqlite3.Connection):
        def execute(self, statement, *values):
            if synchronous and statement == "PRAGMA synchronous = FULL":
                statement = f"PRAGMA synchronous = {synchronous}"
            return super().execute(statement, *values)

    connect = sqlite3.connect

    @functools.wraps(connect)
    def connect_so(*arguments, timeout=5.0, **options):
        return connect(*arguments, timeout=busy or timeout, factory=Connection, **options)

    sqlite3.connect = connect_so


if "serve" in sys.orig_argv and "FAULTS" in os.environ:
    faults = json.loads(os.environ["FAULTS"])
    if "kill" in faults:
        die_before_the_reply(*faults["kill"])
    if "synchronous" in faults or "busy" in faults:
        connect_otherwise(faults.get("synchronous"), faults.get("busy"))
    if "disk" in faults:
        import faulty_disk

        faulty_disk.intercept(**faults["disk"])
