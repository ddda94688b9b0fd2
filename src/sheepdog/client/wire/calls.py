"""Calls of functions that are not their request's: an executor's. Which function it is comes before the arguments.

A small function is there itself, a large one by the hash of its pickle: a worker asks for it once. Arguments alone are
a pickle, which never begins like this.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import Blob

NAMED, WITHIN = b"\0N", b"\0W"
DIGEST = 32  # bytes of a hash
HEAD = 2 + DIGEST  # bytes of a call in which there is a name, if it names its function
LENGTH = struct.Struct("!I")
SMALL = 2048  # bytes of a function that goes along with each call


def call_by_name(digest: bytes, arguments: bytes) -> bytes:
    """Return the call of a function that is kept elsewhere."""
    return NAMED + digest + arguments


def call_with(function: bytes, arguments: bytes) -> bytes:
    """Return the call of a function that goes along."""
    return WITHIN + LENGTH.pack(len(function)) + function + arguments


def name_in(call: "Blob") -> "bytes | None":
    """Return the hash of the function that a call names; None if it names none."""
    if isinstance(call, bytes):
        head = call[:HEAD]
    else:
        call.seek(0)
        head = call.read(HEAD)
    return head[2:] if head[:2] == NAMED else None


def split(call: bytes) -> "tuple[bytes, bytes, bytes]":
    """Return the hash of a call's function, or its pickle, or neither; and the pickle of its arguments."""
    if call[:2] == NAMED:
        return call[2:HEAD], b"", call[HEAD:]
    if call[:2] == WITHIN:
        start = 2 + LENGTH.size
        end = start + LENGTH.unpack_from(call, 2)[0]
        return b"", call[start:end], call[end:]
    return b"", b"", call
