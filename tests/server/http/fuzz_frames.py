"""Feed frames to their readers under atheris, which looks for new ways through the code. `make fuzz` runs it."""

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports():
    from sheepdog import client
    from sheepdog.server.calls import Call, read_exchange


def read(data: bytes) -> None:
    """Read a frame; anything but a refusal is a find."""
    try:
        header = client.unpack(io.BytesIO(data))
        read_exchange(Call(1, "exchange", header, [b"" for _ in header["blobs"][:100]]))
    except (ValueError, TypeError, KeyError, OverflowError):
        pass


def framed(data: bytes) -> None:
    """Half the time give the length away, or it would be guessed for ever."""
    read(len(data[1:]).to_bytes(4, "big") + data[1:] if data[:1] < b"\x80" else data[1:])


def seed(directory: Path) -> None:
    """Write right calls into a directory: no chance would find them."""
    header: dict[str, Any] = {
        "worker": "w",
        "call": 1,
        "want": 1,
        "holding": [[1, 2, 1]],
        "outcomes": [[3, 1, 0, 0.5]],
        "host": "h",
    }
    for number, chosen in enumerate([header, dict(header, outcomes=[]), dict(header, holding=[])]):
        frame = client.pack(chosen, [1, 0] * len(chosen["outcomes"]))
        (directory / str(number)).write_bytes(b"\0" + frame[4:])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        seed(Path(corpus))
        atheris.Setup([*sys.argv, corpus], framed)
        atheris.Fuzz()
