"""The power fails: what was acknowledged is on the disk."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheepdog.server.life import Server
from sheepdog.storage import Storage
from tests import disk as disks
from tests.disk.power_loss import Disk
from tests.faults import fault
from tests.whole.durable import DB, SEED, Talker, check_results, check_runs, lost, needs_sqlite, start_many

pytestmark = pytest.mark.usefixtures("killed")


def lose_power(place: Path, request_id: int, talker: Talker, rounds: int, **more: Any) -> Iterator[str]:
    """Let the server die at random writes and syncs, and drop what was not synced; yield what is wrong afterwards.

    No other process opens the database meanwhile: what is on the disk is what the server put there. Each server
    starts with the files that the loss before it has left.
    """
    chance = random.Random(SEED)
    Server(dbfile=DB).stop()
    with contextlib.closing(sqlite3.connect(DB)) as db:
        request = unchanging(db)
    files = {"sheepdog.sqlite": Path(DB).read_bytes()}
    assert not Path(f"{DB}-wal").exists()
    for number in range(rounds):
        journal, copy = place / f"journal.{number}", place / f"copy.{number}"
        disk_faults = {"journal": str(journal), "operations": chance.randrange(1, 150)}
        environment = {**os.environ, **disks.environment(disk=disk_faults, **more)}
        command = [sys.executable, "-m", "sheepdog", "serve", str(place / DB)]
        with (place / "log").open("ab") as log:
            assert subprocess.run(command, stderr=log, env=environment, timeout=60).returncode == -signal.SIGKILL
        acknowledged = dict(talker.acknowledged)
        disk = Disk(files)
        disk.replay(journal)
        files = disk.lose_power(chance)
        copy.mkdir()
        for folder in (place, copy):
            for suffix in ("-wal", "-shm"):  # the database itself stays the same file
                (folder / f"{DB}{suffix}").unlink(missing_ok=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)
        with contextlib.closing(sqlite3.connect(copy / DB)) as db:
            for problem in problems(db, request, acknowledged):
                yield f"loss {number}: {problem}"


def problems(db: sqlite3.Connection, request: Any, acknowledged: dict[int, bytes]) -> Iterator[str]:
    """Yield what is wrong with a database after a loss."""
    try:
        if (check := db.execute("PRAGMA quick_check").fetchall()) != [("ok",)]:
            yield f"damaged: {check}"
        if unchanging(db) != request:
            yield "the request is another"
        if missing := lost(acknowledged, 1, db):
            yield f"{len(missing)} of {len(acknowledged)} acknowledged outcomes are lost"
        if db.execute("SELECT done FROM request").fetchone() != db.execute("SELECT count(*) FROM outcome").fetchone():
            yield "the count is wrong"
    except sqlite3.DatabaseError as error:
        yield f"damaged: {error}"


def unchanging(db: sqlite3.Connection) -> list[Any]:
    """Return what of a request stays as it is: its function, its tasks."""
    columns = "id, name, token, form, function, namespace, tasks, created"
    return [db.execute(f"SELECT {columns} FROM request").fetchall(), db.execute("SELECT * FROM task").fetchall()]


@needs_sqlite
@fault(
    "power loss",
    "the power fails 30 times: what was not synced is lost, in part or torn",
    promise="no outcome is lost that was acknowledged; the database is whole",
)
def test_the_power_fails_30_times(place: Path) -> None:
    """See disk/power_loss.py. What was acknowledged is there, the database is whole, and no task runs twice."""
    count, losses = 6000, 30
    request_id = start_many(place, count)
    with Talker(request_id) as talker:
        assert list(lose_power(place, request_id, talker, losses)) == []
        with Storage(DB) as storage:
            assert not storage.progress(request_id).finished, "the run lasted through all losses"
        check_results(request_id, count)
    print(f"\n{losses} losses of power, {len(talker.acknowledged)} outcomes acknowledged to the talker, none lost")
    check_runs(place, count, talker)


@needs_sqlite
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_loss_of_power_shows_what_was_not_synced(place: Path, synchronous: str) -> None:
    """With less synchronisation acknowledged outcomes are lost: so the test above can fail."""
    request_id = start_many(place, 10_000)
    with Talker(request_id) as talker:
        problem = next(lose_power(place, request_id, talker, 30, synchronous=synchronous), "nothing wrong")
    print(f"\nsynchronous={synchronous}: {problem}")
    assert "lost" in problem or "damaged" in problem
