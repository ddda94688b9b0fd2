"""Reading what is not trusted: plain data comes back as it was, and nothing else comes at all."""

import datetime
import io
import os
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sheepdog.errors import SheepdogError, UntrustedResult
from sheepdog.values.plain import read_plain
from sheepdog.values.serialisation import deserialise, deserialise_arguments, serialise, serialise_arguments
from tests.faults import fault

HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
PLAIN = st.recursive(
    HASHABLE | st.binary().map(bytearray) | st.sets(HASHABLE, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=5).map(tuple) | st.dictionaries(HASHABLE, inner)
    ),
    max_leaves=20,
)


@pytest.mark.slow
@given(PLAIN, st.sampled_from([4, 5]), st.booleans())
@settings(max_examples=400, deadline=None)
def test_plain_data_comes_back(value: Any, protocol: int, whole: bool) -> None:
    """As pickle writes it, in Python or in C, and as a worker does."""
    if whole:
        data = serialise(value)
    else:
        buffer = io.BytesIO()
        pickle._Pickler(buffer, protocol).dump(value)
        data = buffer.getvalue()
    found = deserialise(data, trusted=False)
    assert found == value
    assert repr(found) == repr(pickle.loads(data))


SIZES = [10**5000, -(10**400), "x" * 300, "é" * 70_000, b"x" * 70_000, list(range(3000))]


@pytest.mark.parametrize("value", SIZES, ids=lambda value: type(value).__name__)
def test_sizes(value: Any) -> None:
    assert read_plain(serialise(value)) == value


def test_what_is_one_object_stays_one() -> None:
    inner = [1, bytearray(b"x")]
    first, second = read_plain(serialise([inner, inner]))
    assert first is second
    loop: list[Any] = []
    loop.append((loop,))  # a tuple of which the pickler finds the end only when it has begun it again
    found = read_plain(serialise(loop))
    assert found[0][0] is found


@pytest.mark.slow
def test_many_values_are_read_in_time() -> None:
    value = [{"name": f"sheep {i}", "weight": i / 3, "at": (i, i + 1)} for i in range(30_000)]
    data = serialise(value)
    begun = time.monotonic()
    assert read_plain(data) == value
    assert time.monotonic() - begun < 20


def test_arguments() -> None:
    for item in [(1, "a"), {"x": [1.5]}]:
        [data] = serialise_arguments([item])
        assert deserialise_arguments(data, trusted=False) == item


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


class Slotted:
    pass


@fault(
    53,
    "a result that is a program in disguise, read with trusted=False",
    promise="it is refused, and nothing of it is run",
)
def test_what_would_run_does_not(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for value in (Evil(os.system, f"touch {canary}"), [{"x": (Evil(os.mkdir, str(canary)),)}]):
        data = pickle.dumps(value, 4)
        with pytest.raises(UntrustedResult, match=r"wants (posix|nt)\.(system|mkdir).*trusted=True"):
            deserialise(data, trusted=False)
        assert not canary.exists()
    deserialise(data)
    assert canary.exists()  # so it would have


@pytest.mark.parametrize(
    "value", [len, int, Slotted, Slotted(), datetime.date(2026, 1, 1), range(3), ValueError("x"), Ellipsis, lambda: 1]
)
def test_other_kinds_are_refused(value: Any) -> None:
    for data in (serialise(value), serialise([value])):
        with pytest.raises(UntrustedResult, match="not plain data"):
            read_plain(data)


def test_a_refusal_is_ours_and_fit_for_a_terminal() -> None:
    assert issubclass(UntrustedResult, SheepdogError)
    with pytest.raises(UntrustedResult) as caught:
        read_plain(b"\x80\x04\x8c\x05a\x1b[2J\x8c\x04evil\x93.")
    assert str(caught.value).isprintable()
    with pytest.raises(UntrustedResult) as caught:
        read_plain(b"\x80\x04X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"\x8c\x01b\x93.")
    assert len(str(caught.value)) < 1000


def name(module: bytes, attribute: bytes) -> bytes:
    return b"\x8c%c%b\x8c%c%b\x93" % (len(module), module, len(attribute), attribute)


COMPLEX, BYTEARRAY = name(b"builtins", b"complex"), name(b"builtins", b"bytearray")

CRAFTED = {
    "nothing": b"",
    "no end": b"\x80\x04N",
    "no value": b"\x80\x04.",
    "two values": b"\x80\x04NN.",
    "an unknown instruction": b"\x80\x04\xff.",
    "a number from a persistent store": b"\x80\x04K\x01Q.",
    "a name from a persistent store": b"\x80\x04Pthere\n.",
    "an extension's number": b"\x80\x04\x82\x01.",
    "a buffer from elsewhere": b"\x80\x05\x97.",
    "an instance, the old way": b"\x80\x04(ios\nsystem\n.",
    "an object, the old way": b"\x80\x04(cos\nsystem\no.",
    "a global, the old way": b"\x80\x04cos\nsystem\n.",
    "a type": b"\x80\x04" + COMPLEX + b".",
    "a type in a list": b"\x80\x04]" + COMPLEX + b"a.",
    "a type by its number": b"\x80\x04" + COMPLEX + b"\x940]h\x00a.",
    "a type called as it is not": b"\x80\x04" + BYTEARRAY + b"K\x05\x85R.",
    "a type called with a type": b"\x80\x04" + BYTEARRAY + COMPLEX + b"\x85R.",
    "a call of a string": b"\x80\x04\x8c\x01a)R.",
    "a type with a state": b"\x80\x04" + COMPLEX + b"}b.",
    "a type made new": b"\x80\x04" + COMPLEX + b")\x81.",
    "attributes of attributes": b"\x80\x04" + name(b"builtins", b"complex.__subclasses__") + b")R.",
    "names that are numbers": b"\x80\x04K\x01K\x02\x93.",
    "an append to a tuple": b"\x80\x04)Na.",
    "an append to a dict": b"\x80\x04}Na.",
    "an item of a list": b"\x80\x04]K\x00Ns.",
    "a key without a value": b"\x80\x04}(Nu.",
    "a key that has no hash": b"\x80\x04}]Ns.",
    "a list in a set": b"\x80\x04\x8f(]\x90.",
    "a number that was not kept": b"\x80\x04h\x05.",
    "what is below a mark": b"\x80\x04N(\x85.",
    "no mark": b"\x80\x04Nt.",
    "more than there is": b"\x80\x04\x86.",
    "bytes of 8 EiB": b"\x80\x04\x8e" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "bytes of 1 TiB": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "a text of 4 GiB": b"\x80\x04X" + struct.pack("<I", 2**32 - 1) + b"x.",
    "a text of 1 TiB": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "a bytearray of 1 TiB": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "a number of 2 GiB": b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a number of less than no bytes": b"\x80\x04\x8b" + struct.pack("<i", -1) + b"x.",
    "a key that takes for ever": b"\x80\x04}N" + b"".join(
        b"\x94h" + bytes([i]) + b"\x86" for i in range(100)
    ) + b"Ns.",
    "a set's item that takes for ever": b"\x80\x04\x8f(N" + b"".join(
        b"\x94h" + bytes([i]) + b"\x86" for i in range(100)
    ) + b"\x90.",
    "a thousand copies": b"\x80\x04B" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"\x94" + BYTEARRAY + b"\x94"
    + b"0" * 2 + b"](" + b"h\x01h\x00\x85R" * 1000 + b"e.",
}  # fmt: skip

# In a process with little memory and time, for what this is about is that none is used.
READER = """
import resource, sys
from sheepdog.errors import UntrustedResult
from sheepdog.values.plain import read_plain
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
data = sys.stdin.buffer.read()
count = 0
while data:
    size = int.from_bytes(data[:8], "big")
    try:
        print("read", repr(read_plain(data[8:8 + size]))[:100])
    except UntrustedResult as error:
        print("refused", error)
    data = data[8 + size:]
"""


def read_apart(pickles: list[bytes]) -> list[str]:
    frames = b"".join(len(data).to_bytes(8, "big") + data for data in pickles)
    done = subprocess.run([sys.executable, "-c", READER], input=frames, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


@pytest.mark.slow
def test_crafted_pickles_are_refused() -> None:
    said = read_apart(list(CRAFTED.values()))
    assert [what for what, line in zip(CRAFTED, said, strict=True) if not line.startswith("refused ")] == []
    assert not [line for line in said if "MemoryError" in line]  # it did not try


def test_a_memo_that_lies_costs_nothing() -> None:
    """An unpickler in C makes room for all numbers below."""
    lies = [b"\x80\x04Nr" + struct.pack("<I", 2**32 - 1) + b".", b"\x80\x04]" + b"Nr\xff\xff\xff\x7fa" * 1000 + b"."]
    assert [line[:10] for line in read_apart(lies)] == ["read None", "read [None"]


def test_a_frame_that_lies_is_no_harm() -> None:
    lie = b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N."
    assert read_apart([lie]) == ["read None"]


def test_deep_nesting() -> None:
    depth = 200_000
    value = read_plain(b"\x80\x04" + b"(" * depth + b"t" * depth + b".")
    for _ in range(depth - 1):
        [value] = value
    assert value == ()


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x80\x04"]))
@settings(max_examples=300, deadline=None)
@fault(53, "any bytes as a result, read with trusted=False", promise="plain data, or refused")
def test_any_bytes_are_data_or_refused(data: bytes, start: bytes) -> None:
    try:
        value = read_plain(start + data + b".")
    except UntrustedResult:
        return
    assert kinds(value) <= {type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set,
                            frozenset}  # fmt: skip


@pytest.mark.slow
@given(PLAIN, st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_pickle_is_data_or_refused(value: Any, draw: Any) -> None:
    data = bytearray(pickle.dumps([value, bytearray(b"x"), 1j, Slotted], 4))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    test_any_bytes_are_data_or_refused.hypothesis.inner_test(bytes(data), b"")  # type: ignore[attr-defined]


def kinds(value: Any) -> set[type]:
    found: set[type] = set()
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        found.add(type(item))
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
    return found


def test_trusted_is_the_default() -> None:
    load: Callable[..., Any] = deserialise
    assert load(serialise(datetime.date(2026, 1, 1))) == datetime.date(2026, 1, 1)
