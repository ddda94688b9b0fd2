"""Memory that is not enough."""

import os
import re
import resource
from pathlib import Path

import pytest

from sheepdog.client import MEMORY, RESULT
from tests.client.children import Start, give, outcomes
from tests.client.shepherd import Shepherd
from tests.faults import fault


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_AS)[0] >= 0, reason="the address space is limited already")
def test_a_task_beyond_its_memory_is_an_error_and_the_next_one_runs(start: Start) -> None:
    child = start(memory_limit=1 << 30)
    give(child, ("memory", 2 << 30), ("memory", 1 << 20))
    (_, kind, text), second = outcomes(child, 2)
    assert kind == MEMORY
    assert re.match(rb"out of memory: its process had [\d.]+ [MG]B at most, the limit is 1.0 GB; MemoryError\n", text)
    assert second[:2] == (2, RESULT)


@fault(
    (31, "memory"),
    "the kernel kills a task for its memory",
    promise="its error says so, with what it had and what was allowed; the next task runs",
)
def test_a_task_that_the_kernel_ends_for_its_memory_is_said_to_be(shepherd: Shepherd) -> None:
    group = Path(f"/sys/fs/cgroup/memory/sheepdog-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group of version 1 can be made here")
    try:
        (group / "memory.limit_in_bytes").write_text(str(200 << 20))
        server = shepherd.serve(("x = bytearray(400 << 20)",), ("result = 1",))
        worker = shepherd.work(server, first=f"echo $$ >{group / 'cgroup.procs'} || exit 9;")
        assert worker.wait(60) == 0, shepherd.log()
        (kind, text), one = server.results()
        assert (kind, one) == (MEMORY, 1)
        assert re.fullmatch(r"out of memory: its process had 1\d\d MB at most, the limit is 200 MB", text)
    finally:
        shepherd.close()
        group.rmdir()


@pytest.mark.slow
def test_a_task_that_fills_its_memory_bit_by_bit_says_so(shepherd: Shepherd) -> None:
    server = shepherd.serve(("x = []\nwhile True: x.append([0] * 9)",), ("result = 1",))
    assert shepherd.work(server, memory_limit=400 << 20).wait(60) == 0
    (kind, text), one = server.results()
    assert (kind, one) == (MEMORY, 1)
    assert text == "out of memory: its process had 399 MB at most, the limit is 400 MB; MemoryError"
