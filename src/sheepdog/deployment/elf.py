"""Programs and libraries of Linux: for which machine they are, what they need, and where they look for it."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

MAGIC = b"\x7fELF"
MACHINES = {3: "i686", 20: "ppc", 21: "ppc64le", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64"}
MACHINES |= {243: "riscv64", 258: "loongarch64"}
LOAD, DYNAMIC, INTERPRETER = 1, 2, 3  # kinds of segments
NEEDED, STRINGS, RPATH, RUNPATH = 1, 5, 15, 29  # entries of the dynamic one


class Program(NamedTuple):
    """What is in such a file."""

    machine: str
    """As uname -m says it; empty if it is not known."""
    interpreter: str
    """The loader that it names; empty for a library."""
    needed: tuple[str, ...]
    """The libraries."""
    paths: tuple[tuple[int, int, str], ...]
    """Where it looks for them first: where the entry and the text are in the file, and the text."""
    glibc: tuple[int, int]
    """The oldest version of the GNU libc that it can run with; (0, 0) if it needs none."""


def read(data: bytes) -> Program | None:
    """Return what a file is; None if it is none of Linux's."""
    if data[:4] != MAGIC or len(data) < 64:
        return None
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    machine = MACHINES.get(struct.unpack_from(f"{order}H", data, 18)[0], "")
    try:
        segments = _segments(data, wide, order)
        entries = _dynamic(data, wide, order, segments)
        texts = next((_offset(value, segments) for _, tag, value in entries if tag == STRINGS), 0)
        needed = tuple(_text(data, texts + value) for _, tag, value in entries if tag == NEEDED)
        paths = [(at, texts + value) for at, tag, value in entries if tag in (RPATH, RUNPATH)]
        interpreter = next((_text(data, offset) for kind, offset, _, _ in segments if kind == INTERPRETER), "")
    except (struct.error, ValueError):
        return Program(machine, "", (), (), (0, 0))
    versions = {(int(major), int(minor)) for major, minor in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", data)}
    found = tuple((at, text, _text(data, text)) for at, text in paths)
    return Program(machine, interpreter, needed, found, max(versions, default=(0, 0)))


def moved(data: bytes, program: Program, path: str) -> bytes | None:
    """Return a file that looks for its libraries in path first, before all else; None if that cannot be written."""
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    changed = bytearray(data)
    for entry, at, before in program.paths:
        if len(path) > len(before.encode()):
            return None
        struct.pack_into(f"{order}Q" if wide else f"{order}I", changed, entry, RPATH)
        changed[at : at + len(before.encode())] = path.encode().ljust(len(before.encode()), b"\0")
    return bytes(changed)


def _segments(data: bytes, wide: bool, order: str) -> list[tuple[int, int, int, int]]:
    """Return the segments: kind, where each is in the file, where in memory, how many bytes in the file."""
    start = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, 32 if wide else 28)[0]
    size, count = struct.unpack_from(f"{order}HH", data, 54 if wide else 42)
    found = []
    for number in range(count):
        at = start + number * size
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from(f"{order}IIQQQQ", data, at)
        else:
            kind, offset, address, _, length = struct.unpack_from(f"{order}IIIII", data, at)
        found.append((kind, offset, address, length))
    return found


def _dynamic(
    data: bytes, wide: bool, order: str, segments: list[tuple[int, int, int, int]]
) -> list[tuple[int, int, int]]:
    """Return the entries of the dynamic segment: where each is in the file, its tag, its value."""
    layout = struct.Struct(f"{order}{'QQ' if wide else 'II'}")
    found = []
    for kind, offset, _, length in segments:
        if kind == DYNAMIC:
            for at in range(offset, offset + length - layout.size + 1, layout.size):
                tag, value = layout.unpack_from(data, at)
                if tag == 0:
                    break
                found.append((at, tag, value))
    return found


def _offset(address: int, segments: list[tuple[int, int, int, int]]) -> int:
    """Return where in the file is what comes to an address in memory."""
    for kind, offset, start, length in segments:
        if kind == LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError(f"no segment has {address}")


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode(errors="replace")
