"""The server is killed again and again: what it has acknowledged is there."""

import random
import socket
import ssl
import statistics
import time
from pathlib import Path

import pytest

import sheepdog
from sheepdog.server.life import Server
from sheepdog.storage import Storage
from tests.faults import fault
from tests.whole.durable import (
    DB,
    SEED,
    Talker,
    check_results,
    check_runs,
    kill_server,
    lost,
    work,
)

pytestmark = pytest.mark.usefixtures("killed")


def seconds_until_served(port: int) -> float:
    """Wait until a server shakes hands."""
    begin = time.monotonic()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain):
                return time.monotonic() - begin
        except ConnectionRefusedError:
            assert time.monotonic() - begin < 20
            time.sleep(0.005)


@fault(
    1,
    "the server is killed with -9 a hundred times, also while it comes up",
    promise="no outcome is lost that was acknowledged; each task has one, and ran once",
)
def test_the_server_is_killed_100_times(place: Path) -> None:
    """5,000 outcomes, each right and none twice. What a worker was told is stored is there after each kill."""
    kills, count = 100, 5000
    chance = random.Random(SEED)
    mark = str(place / "ran")
    Path(mark + ".kills").touch()
    gates = {i: i * kills // count for i in range(0, count, 50)} | {count - 1: kills}  # so that the run lasts so long
    args = [(i, mark, 0.003, gates.get(i, 0)) for i in range(count)]
    request_id = sheepdog.map_async(work, args, {"workers": 2})
    server = Server(dbfile=DB)
    serving, before = [], 0
    with Storage(DB) as storage, Talker(request_id) as talker:
        for _ in range(kills):
            server.start()
            if chance.random() < 0.5:  # else it may be killed while it comes up
                serving.append(seconds_until_served(talker.port))
            time.sleep(chance.uniform(0.0, 0.4))
            acknowledged, stored = dict(talker.acknowledged), talker.stored
            kill_server(place)
            assert lost(acknowledged, request_id, storage.db) == []
            (outcomes,) = storage.db.execute("SELECT count(*) FROM outcome").fetchone()
            assert max(before, stored) <= outcomes == storage.progress(request_id).done
            before = outcomes
            with open(mark + ".kills", "a") as file:
                file.write(".")
        assert before < count, "the run lasted through all kills"
        server.start()
        check_results(request_id, count)
    twice = check_runs(place, count, talker)
    print(f"\n{kills} kills; {twice} tasks ran twice; {talker.stored} outcomes came from the talker;", end=" ")
    print(f"restart to serving: median {statistics.median(serving):.3f} s, at most {max(serving):.3f} s")
    assert statistics.median(serving) < 2.0
