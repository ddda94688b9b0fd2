"""The report of a child whose function has closed or replaced its files."""

from pathlib import Path

from tests.client.shepherd import Shepherd
from tests.faults import fault


@fault(
    "stdout closed",
    "a task closes all files and opens its own in their place",
    promise="the worker writes into none of them",
)
def test_an_outcome_is_never_written_into_a_users_file(shepherd: Shepherd, tmp_path: Path) -> None:
    source = """
import os
for fd in range(3, 1024):
    try: os.close(fd)
    except OSError: pass
files = [os.open(os.path.join(args[0], str(n)), os.O_RDWR | os.O_CREAT) for n in range(1020)]
print("some output")
result = len(files)
"""
    (tmp_path / "files").mkdir()
    server = shepherd.serve((source, str(tmp_path / "files")), ("result = 1",))
    worker = shepherd.work(server, first="ulimit -n 1024;")
    assert worker.wait(60) == 0
    assert server.results()[0] == 1020
    assert server.outcomes[1].output == b"some output\n"
    assert {path.stat().st_size for path in (tmp_path / "files").iterdir()} == {0}
