"""Frames, of which calls are made: a length, a JSON header, raw blobs."""

import io
import json
import struct
import tempfile

from .limits import CHUNK, IN_MEMORY, MAX_HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    Blob = Any  # bytes, or a binary file if it is large
    Task = tuple[int, int, Blob]  # index, attempt, arguments


def pack(header: "dict[str, Any]", lengths: "list[int]") -> bytes:
    """Return the first bytes of a frame; the blobs, of these lengths, follow it."""
    text = json.dumps(dict(header, blobs=lengths), separators=(",", ":")).encode()
    return struct.pack("!I", len(text)) + text


def unpack(stream: "BinaryIO") -> "dict[str, Any]":
    """Read a frame's header from a binary stream; ValueError if it is none. header["blobs"] holds the lengths."""
    start = stream.read(4)
    if len(start) != 4:
        raise ValueError("the frame is cut off")
    (length,) = struct.unpack("!I", start)
    if length > MAX_HEADER:
        raise ValueError("the header has %d bytes; %d are allowed" % (length, MAX_HEADER))
    text = stream.read(length)
    if len(text) != length:
        raise ValueError("the frame is cut off")
    try:
        header = json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("the header is nested too deeply")
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    lengths = header.get("blobs")
    if not isinstance(lengths, list) or not set(map(type, lengths)) <= {int} or min(lengths, default=0) < 0:
        raise ValueError("blobs must be a list of lengths")
    return header


def read_blob(stream: "BinaryIO", length: int) -> "Blob":
    """Read a blob: bytes, or a temporary file if it is large."""
    if length <= IN_MEMORY:
        blob = stream.read(length)
        if len(blob) != length:
            raise ValueError("the frame is cut off")
        return blob
    spool = tempfile.TemporaryFile()
    while length:
        chunk = stream.read(min(CHUNK, length))
        if not chunk:
            spool.close()
            raise ValueError("the frame is cut off")
        spool.write(chunk)
        length -= len(chunk)
    return spool


def read_blobs(stream: "BinaryIO", lengths: "list[int]") -> "list[Blob]":
    """Read the blobs of a frame."""
    if sum(lengths) > IN_MEMORY:
        return [read_blob(stream, length) for length in lengths]
    data, found, start = read_blob(stream, sum(lengths)), [], 0  # in one go: many are small
    for length in lengths:
        found.append(data[start : start + length])
        start += length
    return found


def size_of(blob: "Blob") -> int:
    """Return the length of a blob, be it bytes or a file."""
    return len(blob) if isinstance(blob, bytes) else blob.seek(0, io.SEEK_END)


def chunks_of(blob: "Blob") -> "Iterator[bytes]":
    """Yield a blob in pieces."""
    if isinstance(blob, bytes):
        yield blob
        return
    blob.seek(0)
    while True:
        chunk = blob.read(CHUNK)
        if not chunk:
            return
        yield chunk


def runs(tasks: "list[tuple[int, int]]") -> "list[list[int]]":
    """Return (index, attempt) pairs as runs of neighbours: [first index, last index, attempt]."""
    found = []  # type: list[list[int]]
    for index, attempt in tasks:
        if found and found[-1][1] == index - 1 and found[-1][2] == attempt:
            found[-1][1] = index
        else:
            found.append([index, index, attempt])
    return found
