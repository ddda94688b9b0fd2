"""Calls that nobody would make by intent. FUZZ=20 makes twenty times as many examples; so does `make fuzz`."""

import io
import json
import os
import sqlite3
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter

from sheepdog import client
from sheepdog.client.wire.records import RECORD
from sheepdog.server.calls import MAX_HELD, Call, read_exchange
from sheepdog.server.http.app import MEDIA_TYPE
from tests.faults import fault
from tests.wire import WORKER, Wire, answer

pytestmark = pytest.mark.slow

OPENAPI = Path(__file__).with_name("openapi.json")
MANY = int(os.environ.get("FUZZ", "1"))
GROWTH = 48 << 20  # bytes of memory that a server may have more of after thousands of calls
TASKS = 50
QUICK = 0.001  # seconds

numbers = st.integers() | st.integers(-2, 400) | st.sampled_from([2**31, 2**63, 2**64, 10**30, 10**400]) | st.floats()
texts = st.text(max_size=20) | st.sampled_from(["w", "\ud800", "\0", "x" * 65, "ä" * 300])
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
right = {
    "worker": st.uuids().map(str) | st.sampled_from(["w", "x" * 64]),
    "call": st.integers(1, 1 << 40),
    "want": st.integers(0, 2000),
    "host": st.just("host"),
    "element": st.just("1"),
    "holding": st.lists(st.tuples(st.integers(1, 9), st.integers(9, 20), st.just(1)), max_size=3),
    "outcomes": st.just([]),
    "protocol": st.just(client.PROTOCOL),
    "python": st.just(client.describe_python()),
    "leaving": st.none(),
}
outcome = st.tuples(st.integers(1, 3), st.just(1), st.integers(0, 1), st.just(0.5))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Right frames, frames with something wrong in them, and mutated ones."""
    header: dict[str, Any] = {key: draw(value) for key, value in right.items()}
    wrong = draw(st.integers(0, 2))
    header["outcomes"] = draw(st.lists(outcome | st.tuples(*[anything] * 4) if wrong else outcome, max_size=3))
    count = 2 * len(header["outcomes"])
    blobs = draw(st.lists(st.binary(max_size=50), min_size=count, max_size=6 if wrong else count))
    lengths: Any = [len(blob) for blob in blobs]
    for key in draw(st.lists(st.sampled_from(sorted(header)), max_size=wrong)):
        if draw(st.booleans()):
            header[key] = draw(anything)
        else:
            header.pop(key, None)
    if wrong and draw(st.integers(0, 9)) == 0:
        lengths = draw(anything)
    frame = bytearray(client.pack(header, lengths) + b"".join(blobs))
    for _ in range(draw(st.integers(0, 2)) if wrong == 2 else 0):
        place = draw(st.integers(0, len(frame) - 1))
        frame[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    if wrong and draw(st.integers(0, 9)) == 0:
        del frame[draw(st.integers(0, len(frame))) :]
    return bytes(frame)


def framed(text: bytes, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(4, "big") + text


AWKWARD = [
    b"",
    b"\0",
    framed(b""),
    framed(b"{}"),
    framed(b"{}", 3),
    framed(b"{}", 2**32 - 1),
    framed(b"{}", client.MAX_HEADER),
    framed(b"[" * 200_000),
    framed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    framed(b'{"blobs":[NaN]}'),
    framed(b'{"blobs":[-1]}'),
    framed(b'{"blobs":[1e400]}'),
    framed(b'{"blobs":[true]}'),
    framed(b'{"blobs":[%d]}' % 2**62),
    framed(b'{"blobs":[%s]}' % (b"9" * 5000)),
    framed(b'{"blobs":[],"worker":"\xff\xfe"}'),
    framed(b'{"blobs":[],"worker":"\\ud800","call":1,"want":0,"holding":[],"outcomes":[]}'),
    framed(json.dumps({**WORKER, "blobs": [], "call": 10**400}).encode()),
    framed(json.dumps({**WORKER, "blobs": [], "call": float("nan")}).encode()),
    framed(json.dumps({**WORKER, "blobs": [], "call": 1, "want": 10**400}).encode()),
    framed(json.dumps({**WORKER, "blobs": [], "call": 1, "holding": [[1, 10**12, 1]]}).encode()),
    framed(json.dumps({**WORKER, "blobs": [], "call": 1, "holding": [[1, MAX_HELD, 1]] * 2}).encode()),
    framed(json.dumps({**WORKER, "blobs": [0, 0], "call": 1, "outcomes": [[1, 1, 0, 10**400]]}).encode()),
    framed(json.dumps({**WORKER, "blobs": [0, 0], "call": 1, "outcomes": [[1, 1, [], 1]]}).encode()),
    framed(json.dumps({**WORKER, "blobs": [0, 0], "call": 1, "outcomes": [[10**30, 1, 0, 1.0]]}).encode()),
    framed(json.dumps({**WORKER, "blobs": [0, 0] * 9, "call": 1, "outcomes": {"abcd": 1}}).encode()),
    framed(json.dumps({**WORKER, "blobs": [0], "call": 1, "records": 10**400}).encode()),
    framed(json.dumps({**WORKER, "blobs": [9], "call": 1, "records": 1}).encode()) + b"x" * 9,
    framed(json.dumps({**WORKER, "blobs": [RECORD.size], "call": 1, "records": 1}).encode()) + b"\xff" * RECORD.size,
    framed(json.dumps({**WORKER, "blobs": [RECORD.size], "call": 1, "records": 1}).encode()) + b"\0" * RECORD.size,
]


@settings(max_examples=300 * MANY, deadline=None, derandomize=MANY == 1, database=None)
@given(frames() | st.binary(max_size=300) | st.builds(framed, st.binary(max_size=300)))
@fault(23, "any bytes as a call", promise="read or refused, never another exception")
def test_a_frame_is_read_or_refused(frame: bytes) -> None:
    """Nothing is raised but what the service takes for a refusal."""
    try:
        header = client.unpack(io.BytesIO(frame))
    except ValueError:
        return
    assert all(type(length) is int and length >= 0 for length in header["blobs"])
    try:
        call = Call(1, "exchange", header, [b"" for _ in header["blobs"][:100]])
        said = read_exchange(call)
    except (ValueError, TypeError, KeyError, OverflowError):
        return
    assert len(said.held) <= MAX_HELD
    assert 0 <= said.want <= 1 << 20
    assert said.number >= 1
    assert all(0 < outcome.attempt < 1 << 31 for outcome in said.outcomes)


class Fuzzed:
    """A server that is fuzzed: after each call it is looked at what that changed."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.statuses: Counter[int] = Counter()
        self.db = sqlite3.connect(wire.dbfile)
        with closing(wire.connect()) as connection:
            for _ in range(50):
                assert wire.exchange(connection)[0] == 200
        self.version = 0
        self.dumped = self.dump()
        self.memory = wire.rss()
        self.connection: Any = None

    def dump(self) -> str:
        """All that the database holds; as before if no other connection has committed a change since."""
        version = self.db.execute("PRAGMA data_version").fetchone()[0]
        if version != self.version:
            self.version = version
            self.latest = "\n".join(self.db.iterdump())
        return self.latest

    def note(self, status: int) -> None:
        """Check that a call that was refused has changed nothing. 409 is a decision: it is noted for the user."""
        self.statuses[status] += 1
        assert status < 500
        if status in (200, 409):
            self.dumped = self.dump()
        else:
            assert self.dump() == self.dumped, status

    def call(self, verb: str, frame: bytes, token: str | None = None) -> None:
        """Make a call."""
        connection = self.connection or self.wire.connect()
        status, _, headers = answer(connection, self.wire.head(len(frame), verb, token) + frame)
        self.connection = connection if headers.get("connection") != "close" else connection.close()
        self.note(status)

    def check(self) -> None:
        """Look at the server at the end."""
        assert self.wire.exchange(worker="last")[0] == 200
        assert "Traceback" not in self.wire.log()
        assert "a call failed" not in self.wire.log()
        grown = self.wire.rss() - self.memory
        print(f"{dict(self.statuses)}, {grown >> 10} KiB grown")
        assert grown < GROWTH


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Fuzzed]:
    wire = Wire(tmp_path / "db", tasks=TASKS)
    with wire.made:
        fuzzed = Fuzzed(wire.start(app={"REFUSE_SECONDS": QUICK}, tokens={"LOOK_SECONDS": QUICK}))
        with closing(fuzzed.db):
            yield fuzzed
            fuzzed.check()


@fault(
    (22, 23),
    "calls that are wrong in any way, with the right token",
    promise="an answer or 400; a refused call changes nothing, and no memory is lost",
)
def test_whole_calls(fuzzed: Fuzzed) -> None:
    for frame in AWKWARD:
        for verb in ("exchange", "join"):
            fuzzed.call(verb, frame)

    @settings(
        max_examples=300 * MANY,
        deadline=None,
        derandomize=MANY == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.sampled_from(["exchange", "exchange", "exchange", "join"]), frames())
    @example("exchange", b"")
    def fuzz(verb: str, frame: bytes) -> None:
        fuzzed.call(verb, frame)

    fuzz()
    assert fuzzed.statuses[200] > 20
    assert fuzzed.statuses[400] > 20


@fault(21, "any call with a wrong token", promise="401, and nothing changes")
def test_whole_calls_without_the_token(fuzzed: Fuzzed) -> None:
    @settings(max_examples=100 * MANY, deadline=None, derandomize=MANY == 1, database=None)
    @given(st.sampled_from(["exchange", "join"]), frames(), st.text("0123456789abcdef", min_size=1, max_size=64))
    def fuzz(verb: str, frame: bytes, token: str) -> None:
        fuzzed.call(verb, frame, token)

    fuzz()
    assert set(fuzzed.statuses) == {401}


class Adapter(HTTPAdapter):
    """requests' connections, with the certificate that workers pin."""

    def __init__(self, wire: Wire) -> None:
        self.context = wire.context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self.context, assert_hostname=False, **options)


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("token", ["right", "wrong", "missing"])
@pytest.mark.filterwarnings("ignore")
@fault(
    (22, 23),
    "calls made from the description of the server, right and wrong ones",
    promise="the answers that the description has; never 500",
)
def test_the_description_is_true(fuzzed: Fuzzed, mode: str, token: str) -> None:
    """What the server answers is in openapi.json, to right and to wrong calls."""
    import schemathesis  # here, as it takes long
    from schemathesis.specs.openapi import checks

    schemathesis.openapi.media_type(MEDIA_TYPE, frames())
    schema = schemathesis.openapi.from_path(OPENAPI)
    operation = schema["/requests/{request}/{verb}"]["POST"]
    headers = {"right": {"Authorization": f"Bearer {fuzzed.wire.token}"}, "wrong": {"Authorization": "Bearer x"}}

    @settings(
        max_examples=40 * MANY,
        deadline=None,
        derandomize=MANY == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)),
        own=st.sampled_from([True, True, True, False]),
    )
    def fuzz(case: schemathesis.Case[Any], own: bool) -> None:
        if own:
            case.path_parameters["request"] = fuzzed.wire.request
        if token != "right":
            case.headers.pop("Authorization", None)
        response = case.call(
            base_url=f"https://127.0.0.1:{fuzzed.wire.port}", session=session, headers=headers.get(token)
        )
        case.validate_response(
            response,
            checks=[
                schemathesis.checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )
        fuzzed.note(response.status_code)

    with requests.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.mount("https://", Adapter(fuzzed.wire))
        fuzz()
    assert (200 in fuzzed.statuses or 400 in fuzzed.statuses) == (token == "right")
