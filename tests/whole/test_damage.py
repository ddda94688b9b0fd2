"""The database is damaged, or its log is lost."""

import contextlib
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import StorageError
from sheepdog.server.life import Server
from sheepdog.storage import Storage
from tests.faults import fault
from tests.local import ROOT, servers_of
from tests.waiting import until
from tests.whole.durable import DB, SEED, check_results, kill_server, ran, start_many

pytestmark = pytest.mark.usefixtures("killed")


def break_off(place: Path, count: int) -> int:
    """Let some tasks end, and the server be killed; return the request. Its log holds what it stored last."""
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "from tests.whole.durable import start_many, Path; start_many(Path(sys.argv[2]), int(sys.argv[3]))"
    subprocess.run([sys.executable, "-c", code, str(ROOT), str(place), str(count)], check=True)
    until(lambda: (place / "ran").exists() and len(ran(place)) > 400, "400 runs")
    kill_server(place)
    assert Path(f"{DB}-wal").stat().st_size > 50_000
    return 1


def overwrite(file: str, offset: int, data: bytes) -> None:
    with open(file, "r+b") as opened:
        opened.seek(offset)
        opened.write(data)


@pytest.mark.parametrize(
    ("offset", "length", "words"), [(0, 100, "is not a database"), (8192, 40_000, r"is damaged \(.*\): .* \.recover ")]
)
@fault(
    16,
    "a database with a ruined header or overwritten pages",
    promise="nobody serves it; it is left alone, and the message says what can be done",
)
def test_a_damaged_database_is_refused(place: Path, offset: int, length: int, words: str) -> None:
    """Nobody serves it or waits for it, it stays as it is, and the message says what can be done."""
    break_off(place, 1000)
    with contextlib.closing(sqlite3.connect(DB)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(DB, offset, random.Random(SEED).randbytes(length))
    before = Path(DB).read_bytes()
    for call in (Server(dbfile=DB).start, lambda: sheepdog.get_results(1, DB)):
        with pytest.raises(StorageError, match=words):
            call()
    serve = subprocess.run([sys.executable, "-m", "sheepdog", "serve", DB], capture_output=True, text=True, timeout=60)
    assert serve.returncode == 1
    assert re.search(words, serve.stderr)
    assert not servers_of(place)
    assert Path(DB).read_bytes() == before


@fault(16, "a database is damaged while it is served", promise="the server ends, and who waits is told")
def test_a_database_that_is_damaged_while_it_is_served(place: Path) -> None:
    """The server ends when it meets the damage; who waits is told, instead of waiting for ever."""
    request_id = start_many(place, 20_000)
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).done > 200, "200 results")
    overwrite(DB, 8192, random.Random(SEED).randbytes(os.path.getsize(DB) - 8192))
    with pytest.raises(StorageError, match="is damaged"):
        sheepdog.get_results(request_id, DB)
    until(lambda: not servers_of(place), "the server has ended")


@pytest.mark.parametrize("damage", [os.unlink, lambda wal: overwrite(wal, 0, bytes(32))])
@fault(
    16,
    "the database's -wal file is deleted or overwritten",
    promise="what was in it is lost, as the docs say; those tasks run again, and the results are right",
)
def test_the_log_is_lost(place: Path, damage: Callable[[str], None]) -> None:
    """What was stored since the last checkpoint is lost with it: those tasks run again, and the results are right."""
    count = 1000
    request_id = break_off(place, count)
    with Storage(DB):
        pass  # the last to close it moves the log into the database: the request is not lost
    sheepdog.Server(dbfile=DB).start()
    log = Path(f"{DB}-wal")
    until(lambda: len(ran(place)) > 600 and log.exists() and log.stat().st_size > 20_000, "there is a log again")
    kill_server(place)
    damage(str(log))
    check_results(request_id, count)
    assert set(ran(place)) == set(range(count))
