"""Bodies that are large, or that the disk does not take."""

import asyncio
import os
import resource
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from sheepdog import client
from sheepdog.server.http.body import Budget, NoMemory
from tests.faults import fault
from tests.wire import WORKER, Make, Wire, answer, wide_rows


@fault(22, "many large uploads at once", promise="the server's memory does not grow with them")
@pytest.mark.skipif(not wide_rows(), reason="this Python's sqlite3 cannot write a large value in pieces")
def test_many_large_uploads_at_once_do_not_add_up(make: Make) -> None:
    count, size = 5, 200_000_000
    wire = make().start()
    before = wire.rss()
    gate = threading.Barrier(count, timeout=60)
    piece = os.urandom(1_000_000)

    def upload(task: int) -> int:
        header = {**WORKER, "worker": f"w{task}", "call": 1, "outcomes": [[task, 1, 0, 0.1]]}
        head = client.pack(header, [size, 0])
        with wire.context.wrap_socket(socket.create_connection(("127.0.0.1", wire.port), 100)) as connection:
            connection.sendall(wire.head(len(head) + size) + head)
            for number in range(size // len(piece)):
                if number == 100:
                    gate.wait()  # they are all half through
                connection.sendall(piece)
            return answer(connection)[0]

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(upload, range(1, count + 1))) == [200] * count
    grown = wire.rss("VmHWM") - before
    print(f"{count} uploads of {size >> 20} MiB: {grown >> 20} MiB of memory")
    assert grown < 2 * size


@fault(22, "many large calls at once", promise="together they hold no more memory than is allowed; the rest waits")
def test_what_all_calls_hold_in_memory_is_bounded(make: Make) -> None:
    """Forty bodies of 7 MiB come slowly; there is room for four at once. A call that is small need not wait."""
    wire = make(tasks=40).start(body={"BLOB_MEMORY": 32 << 20}, app={"BLOB_MEMORY": 32 << 20})
    size = 7 << 20
    before = wire.rss()

    def begin(task: int) -> tuple[socket.socket, bytes]:
        header = {**WORKER, "worker": f"w{task}", "call": 1, "outcomes": [[task, 1, 0, 0.1]]}
        body = client.pack(header, [size, 0]) + bytes(size)
        connection = wire.connect()
        connection.sendall(wire.head(len(body)) + body[: 1 << 10])
        return connection, body[1 << 10 :]

    begun = [begin(task) for task in range(1, 41)]

    def go_on(connection: socket.socket, rest: bytes) -> int:
        connection.settimeout(100)
        connection.sendall(rest[:-1])
        return answer(connection, rest[-1:])[0]

    with ThreadPoolExecutor(40) as pool:
        going = [pool.submit(go_on, *one) for one in begun]
        assert wire.exchange(worker="small")[0] == 200
        assert [one.result() for one in going] == [200] * 40
    grown = wire.rss("VmHWM") - before
    print(f"40 bodies of 7 MiB: {grown >> 20} MiB of memory")
    assert grown < 40 * size * 2 / 3


@fault(
    (15, "disk full"),
    "the disk is full when a large outcome comes",
    promise="507 and when to come again; it is stored when there is room",
)
def test_a_body_that_the_disk_does_not_take(wire: Wire) -> None:
    """The worker hears that it must come again, not that its outcome is wrong."""
    assert wire.pid
    limits = resource.prlimit(wire.pid, resource.RLIMIT_FSIZE)
    header = {**WORKER, "worker": "u", "call": 1, "outcomes": [[1, 1, 0, 0.1]]}
    body = client.pack(header, [20_000_000, 0]) + bytes(20_000_000)
    resource.prlimit(wire.pid, resource.RLIMIT_FSIZE, (10_000_000, limits[1]))
    connection = wire.connect()
    with suppress(OSError):
        connection.sendall(wire.head(len(body)) + body)
    assert answer(connection)[0] == 507
    assert wire.exchange()[0] == 200
    resource.prlimit(wire.pid, resource.RLIMIT_FSIZE, limits)
    assert answer(wire.connect(), wire.head(len(body)) + body)[0] == 200


def test_a_budget() -> None:
    async def scenario() -> None:
        budget = Budget(1 << 20)
        order = []

        async def use(name: str, size: int) -> None:
            async with budget.hold(size):
                order.append(name)
                await asyncio.sleep(0)

        async with budget.hold(1 << 20):
            waiting = [asyncio.ensure_future(use("large", 1 << 19)), asyncio.ensure_future(use("larger", 1 << 30))]
            await use("little", 1000)
            assert order == ["little"]
        await asyncio.gather(*waiting)
        assert sorted(order) == ["large", "larger", "little"]
        assert budget.free == 1 << 20
        budget.take(1 << 20)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sheepdog.server.http.body.MEMORY_SECONDS", 0.01)
            with pytest.raises(NoMemory):
                await use("never", 1 << 19)
        await budget.give_back(1 << 20)
        await use("again", 1 << 20)

    asyncio.run(scenario())
