"""Frames, and the blobs in them."""

import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheepdog import client
from sheepdog.client import IN_MEMORY

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(header=st.dictionaries(st.text(max_size=5), JSON), blobs=st.lists(st.binary()))
def test_a_frame_comes_back(header: dict[str, Any], blobs: list[bytes]) -> None:
    stream = io.BytesIO(client.pack(header, [len(blob) for blob in blobs]) + b"".join(blobs))
    found = client.unpack(stream)
    assert [client.read_blob(stream, length) for length in found.pop("blobs")] == blobs
    assert found == {key: value for key, value in header.items() if key != "blobs"}
    assert stream.read() == b""


def frame(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut off"),
        (b"\0\0\0", "cut off"),
        (frame(b'{"blobs":[]}')[:-1], "cut off"),
        (struct.pack("!I", client.MAX_HEADER + 1), "8388609 bytes; 8388608 are allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", "are allowed"),
        (frame(b"\xff"), "utf-8"),
        (frame(b"{"), "Expecting"),
        (frame(b"[]"), "not an object"),
        (frame(b"[" * 100_000), "nested too deeply"),
        (frame(b'{"n":' + b"9" * 5000 + b"}"), "digits"),
        (frame(b"{}"), "list of lengths"),
        (frame(b'{"blobs":5}'), "list of lengths"),
        (frame(b'{"blobs":[-1]}'), "list of lengths"),
        (frame(b'{"blobs":[true]}'), "list of lengths"),
        (frame(b'{"blobs":[1.0]}'), "list of lengths"),
    ],
)
def test_what_is_no_frame_is_a_value_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        client.unpack(io.BytesIO(data))


@settings(deadline=None)
@given(data=st.binary())
def test_no_bytes_are_another_exception(data: bytes) -> None:
    for stream in (io.BytesIO(data), io.BytesIO(frame(data))):
        try:
            assert isinstance(client.unpack(stream), dict)
        except ValueError:
            pass


@pytest.mark.parametrize("length", [0, 1, IN_MEMORY, IN_MEMORY + 1, IN_MEMORY + client.CHUNK + 1])
def test_a_large_blob_is_a_file(length: int) -> None:
    data = b"x" * length
    blob = client.read_blob(io.BytesIO(data + b"rest"), length)
    try:
        assert isinstance(blob, bytes) == (length <= IN_MEMORY)
        assert client.size_of(blob) == length
        for _ in range(2):  # as a call that is tried again
            assert b"".join(client.chunks_of(blob)) == data
    finally:
        if not isinstance(blob, bytes):
            blob.close()


@pytest.mark.parametrize("length", [1, IN_MEMORY + 1])
def test_a_blob_that_is_cut_off_is_a_value_error(length: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        client.read_blob(io.BytesIO(b"x" * (length - 1)), length)
