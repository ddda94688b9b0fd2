"""Programs of Linux, read and changed: this machine's own are looked at."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.deployment import elf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are programs of Linux")
SHELL = Path("/bin/sh").resolve()


def test_a_program() -> None:
    program = elf.read(SHELL.read_bytes())
    assert program is not None
    assert program.machine == subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout.strip()
    assert "ld-" in program.interpreter
    assert "libc.so.6" in program.needed
    assert program.glibc >= (2, 2)


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\xcf\xfa\xed\xfe" + bytes(100)])
def test_what_is_none(data: bytes) -> None:
    assert elf.read(data) is None


def test_one_that_is_cut_off() -> None:
    data = SHELL.read_bytes()
    for length in range(64, 4096, 64):
        assert elf.read(data[:length]) is not None


def made(path: bytes, tag: int = elf.RUNPATH) -> bytes:
    """Return a library of 64 bits that looks for others in a path."""
    strings = b"\0" + path + b"\0libmine.so\0"
    dynamic = b"".join(
        struct.pack("<QQ", *entry)
        for entry in ((elf.STRINGS, 0x1000 + 64 + 112), (tag, 1), (elf.NEEDED, len(path) + 2), (0, 0))
    )
    size = 64 + 112 + len(strings) + len(dynamic)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 183, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", elf.LOAD, 5, 0, 0x1000, 0, size, size, 1)
    table = struct.pack("<IIQQQQQQ", elf.DYNAMIC, 5, size - len(dynamic), 0, 0, len(dynamic), len(dynamic), 1)
    return head + load + table + strings + dynamic


def test_it_looks_elsewhere() -> None:
    data = made(b"/usr/local/mine/lib:/elsewhere")
    program = elf.read(data)
    assert program is not None
    assert (program.machine, program.needed) == ("aarch64", ("libmine.so",))
    assert [path for _, _, path in program.paths] == ["/usr/local/mine/lib:/elsewhere"]
    changed = elf.moved(data, program, "$ORIGIN/../lib")
    assert changed is not None
    again = elf.read(changed)
    assert again is not None
    assert [path for _, _, path in again.paths] == ["$ORIGIN/../lib"]
    assert (again.needed, len(changed)) == (program.needed, len(data))
    assert struct.pack("<Q", elf.RPATH) in changed[-64:]
    assert elf.moved(made(b"/lib"), elf.read(made(b"/lib")) or program, "$ORIGIN/../lib") is None
