"""What tasks print."""

import fcntl
import os
import resource
import time
from pathlib import Path

import pytest

from sheepdog.client.child import capture as capture_module
from sheepdog.client.child.capture import Capture
from sheepdog.client.wire.limits import CHUNK, MAX_OUTPUT
from sheepdog.config import Config
from tests.client.children import Start, death, give, printed
from tests.client.shepherd import Shepherd
from tests.faults import fault


def test_each_task_has_its_own_output(start: Start) -> None:
    assert printed(start(), ("print", "one", "two", "three"), ("silent",), ("print", "\ud800", "ö", "end")) == [
        b"one\ntwo\nthree\n",
        b"",
        b"\\ud800\n\xc3\xb6\nend\n",
    ]


def write(how: str, text: str) -> None:
    """Print in one of the ways that there are."""
    if how == "print":
        print(text, end="")
    elif how == "descriptor":
        os.write(2, text.encode())
    elif how == "file":
        with open("/dev/stdout", "a") as file:
            file.write(text)


def test_of_quick_tasks_each_has_its_own_output_however_it_is_written(start: Start) -> None:
    calls = [(how, str(number)) for number in range(30) for how in ("print", "", "descriptor", "file", "")]
    assert printed(start(write), *calls) == [text.encode() if how else b"" for how, text in calls]


def test_of_a_long_output_the_end_is_kept(start: Start) -> None:
    [output] = printed(start(), ("print", "x" * 10**6, "y", "z"))
    assert output.startswith(b"... 983621 bytes left out ...\nxxx")
    assert output.endswith(b"x\ny\nz\n")
    assert len(output) < MAX_OUTPUT + 100


def test_as_much_is_kept_as_is_wanted() -> None:
    assert Config().max_output == MAX_OUTPUT
    for most, kept in ((4, b"... 6 bytes left out ...\n6789"), (10, b"0123456789"), (0, b"")):
        capture = Capture(most)
        os.write(capture.fd, b"0123456789")
        assert capture.end() == kept
        assert capture.end() == b""
        capture.file.close()


@fault("stdout closed", "a task that closes or replaces stdout and stderr", promise="the next task has its own again")
def test_streams_that_a_task_closed_or_took_away_are_back_for_the_next(start: Start) -> None:
    calls = [("print", "one", "two", "three"), ("close",), ("print", "one", "two", "three"), ("redirect",)]
    first, closed, third, redirected, last = printed(start(), *calls, ("print", "one", "two", "three"))
    assert first == third == last == b"one\ntwo\nthree\n"
    assert closed == redirected == b""


def test_the_last_words_of_a_task_that_died_are_kept(start: Start) -> None:
    child = start()
    give(child, ("print and die",))
    _, outcome, _, _ = death(child)
    assert outcome is not None
    assert outcome.output.startswith(b"last words\n")


def test_without_a_directory_for_temporary_files_there_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    capture = Capture()
    assert capture.file.name == os.devnull
    assert capture.end() == b""
    capture.file.close()


@fault("binary output", "a task prints every byte there is", promise="its output comes as it is")
def test_binary_output_comes_as_it_is(shepherd: Shepherd) -> None:
    server = shepherd.serve(("import os; os.write(1, bytes(range(256)))",))
    assert shepherd.work(server).wait(60) == 0
    assert server.outcomes[1].output == bytes(range(256))


@fault(
    (28, "stdout flooded"), "a task prints a gigabyte", promise="the disk does not fill; the end of the output is kept"
)
@pytest.mark.slow
def test_a_flood_of_output_does_not_fill_the_disk(shepherd: Shepherd, tmp_path: Path) -> None:
    flood = "import os\nfor _ in range(1024): os.write(1, b'x' * (1 << 20))\nprint('the end')"
    server = shepherd.serve((flood,), ("result = 1",))
    (tmp_path / "tmp").mkdir()
    most = 0
    worker = shepherd.work(server, first=f"TMPDIR={tmp_path / 'tmp'}; export TMPDIR;")
    while worker.poll() is None:
        most = max(most, *(size_of_unlinked(pid, tmp_path / "tmp") for pid in [worker.pid]))
        time.sleep(0.002)
    assert worker.wait() == 0
    assert server.results() == [None, 1]
    assert server.outcomes[1].output.endswith(b"the end\n")
    assert len(server.outcomes[1].output) < MAX_OUTPUT + 100
    assert 0 < most < 700 << 20


@pytest.mark.parametrize("hole", [True, False], ids=["a hole", "cut"])
def test_while_the_child_looks_nothing_is_cut(hole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hole:
        monkeypatch.setattr(capture_module, "punch", lambda *_: False)
    capture = Capture()
    os.write(capture.fd, b"x" * (CHUNK + 100_000) + b"the end")
    looking, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        fcntl.lockf(capture.fd, fcntl.LOCK_EX)  # as end() does
        os.write(looking[1], b"!")
        os.read(done[0], 1)
        os._exit(0)
    os.read(looking[0], 1)
    assert not capture.trim()
    assert os.fstat(capture.fd).st_size == CHUNK + 100_007
    os.write(done[1], b"!")
    os.waitpid(child, 0)
    assert capture.trim()
    assert os.fstat(capture.fd).st_blocks * 512 < 100_000
    os.write(capture.fd, b" and more")
    assert capture.end().endswith(b"xxthe end and more")
    assert capture.end() == b""
    capture.file.close()
    for fd in looking + done:
        os.close(fd)


def test_a_limit_of_file_sizes_holds_for_the_length_too(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Capture()
    os.write(capture.fd, b"x" * (CHUNK + 100_000))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (CHUNK, CHUNK))
    assert capture.trim()
    assert os.fstat(capture.fd).st_size < CHUNK // 2
    capture.file.close()


def size_of_unlinked(pid: int, directory: Path) -> int:
    """The bytes that a process has in deleted files of a directory."""
    found = 0
    try:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(path).startswith(str(directory)):
                found += path.stat().st_blocks * 512
    except OSError:
        pass
    return found
