"""Calls of functions that are not their request's: an executor's. Which function it is comes before the arguments.

A small function is there itself, a large one by the hash of its pickle: a worker asks for it once. Arguments alone are
a pickle, which never begins like this.

Before a call, and before a request's function, there may be the hash of a manifest: what it needs of the user's own
files, see client/bundle.py. That of a call counts; unless the one of the function is said to be for all calls, as it is
when another function is given to calls that are stored.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import Blob

NAMED, WITHIN, MANIFEST, FOR_ALL = b"\0N", b"\0W", b"\0M", b"\0A"
DIGEST = 32  # bytes of a hash
HEAD = 2 + DIGEST  # bytes in which there is a name
MOST_HEAD = 2 * HEAD  # bytes of a call in which its names are
LENGTH = struct.Struct("!I")
SMALL = 2048  # bytes of a function that goes along with each call


def call_by_name(digest: bytes, arguments: bytes) -> bytes:
    """Return the call of a function that is kept elsewhere."""
    return NAMED + digest + arguments


def call_with(function: bytes, arguments: bytes) -> bytes:
    """Return the call of a function that goes along."""
    return WITHIN + LENGTH.pack(len(function)) + function + arguments


def manifest_in(call: "Blob") -> bytes:
    """Return the hash of the manifest of a call, or of a function; nothing if it has none."""
    head = start_of(call)
    return head[2:HEAD] if head[:2] in (MANIFEST, FOR_ALL) else b""


def is_for_all(function: "Blob") -> bool:
    """Tell whether a function's manifest is that of all its calls, whatever they name."""
    return start_of(function)[:2] == FOR_ALL


def for_all(function: bytes) -> bytes:
    """Return a function whose manifest is that of all its calls, if it has one."""
    return FOR_ALL + function[2:] if manifest_in(function) else function


def names_in(call: "Blob") -> "list[bytes]":
    """Return the hashes that a call names: of its manifest, and of its function."""
    head, found = start_of(call), []
    if head[:2] == MANIFEST:
        found.append(head[2:HEAD])
        head = head[HEAD:]
    if head[:2] == NAMED:
        found.append(head[2:HEAD])
    return found


def start_of(call: "Blob") -> bytes:
    """Return the beginning of a call, in which its names are."""
    if isinstance(call, bytes):
        return call[:MOST_HEAD]
    call.seek(0)
    return call.read(MOST_HEAD)  # type: ignore[no-any-return]


def with_manifest(digest: bytes, data: bytes) -> bytes:
    """Return a call, or a function, with the hash of its manifest."""
    return MANIFEST + digest + data


def without_manifest(data: bytes) -> bytes:
    """Return a call, or a function, itself."""
    return data[HEAD:] if data[:2] in (MANIFEST, FOR_ALL) else data


def split(call: bytes) -> "tuple[bytes, bytes, bytes]":
    """Return the hash of a call's function, or its pickle, or neither; and the pickle of its arguments."""
    call = without_manifest(call)
    if call[:2] == NAMED:
        return call[2:HEAD], b"", call[HEAD:]
    if call[:2] == WITHIN:
        start = 2 + LENGTH.size
        end = start + LENGTH.unpack_from(call, 2)[0]
        return b"", call[start:end], call[end:]
    return b"", b"", call
