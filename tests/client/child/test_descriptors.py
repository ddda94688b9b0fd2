"""Descriptors: all of the data is written, one is told from another, and ours are out of a function's way."""

import os
import threading
from pathlib import Path

import pytest

from sheepdog.client.child.descriptors import MARK, identity, mark, move_up, write_all


def test_more_than_a_pipe_holds_is_written() -> None:
    read, write = os.pipe()
    os.set_blocking(write, True)
    data = os.urandom(1 << 20)
    writer = threading.Thread(target=lambda: (write_all(write, data), os.close(write)))
    writer.start()
    with open(read, "rb") as file:
        assert file.read() == data
    writer.join()


def test_an_identity_is_that_of_the_file(tmp_path: Path) -> None:
    one = os.open(tmp_path / "one", os.O_CREAT | os.O_RDWR)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    again = os.dup(one)
    try:
        assert identity(one) == identity(again) != identity(other)
    finally:
        for fd in (one, other, again):
            os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        identity(one)


@pytest.mark.skipif(MARK < 0 or not os.path.exists("/proc/self"), reason="Linux only")
def test_a_mark_stays_with_what_is_open() -> None:
    read, write = os.pipe()
    try:
        assert mark(read)
    finally:
        os.close(read)
        os.close(write)
    assert not mark(read)


def test_a_descriptor_that_is_moved_up_is_the_same_file_far_from_the_low_numbers() -> None:
    read, write = os.pipe()
    moved = move_up(read)
    try:
        assert moved > 100
        assert not os.get_inheritable(moved)
        os.write(write, b"x")
        assert os.read(moved, 1) == b"x"
        assert move_up(moved) == moved
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(read)
    finally:
        os.close(moved)
        os.close(write)
