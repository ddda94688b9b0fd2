"""Text of others, made fit for terminals."""

import logging
import pickle
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepdog.errors import CommandFailed, NotRun, SchedulerNotFound, TaskFailed
from sheepdog.front import dispatch
from sheepdog.front.results import ErrorText, describe
from sheepdog.front.terminal import say_aloud
from sheepdog.printable import Printable, printable
from sheepdog.server.calls import clean
from sheepdog.storage import Storage
from sheepdog.values.facts import Event, What
from sheepdog.values.model import Kind, Outcome, RequestState
from tests.faults import fault

EVIL = "\x1b]0;owned\x07no \x1b[31mroute\x1b[0m\x1b[2J\x9b1A to\x00 host\x08"
GOOD = "no route to host"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain, as it is: äöü ✓", "plain, as it is: äöü ✓"),
        ("lines\n\tand tabs", "lines\n\tand tabs"),
        ("10 %\r20 %\r\n30 %", "10 %\n20 %\n30 %"),
        (EVIL, GOOD),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ended\nnext", "0;never ended\nnext"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1b(Bcharset \x1b7saved \x1b=", "charset saved "),
        ("\x1b", ""),
        ("right\u202eleft", "rightleft"),
        ("a\u061cb\u200bc\u2060d\ufeffe\U000e0041f\u3164g\ud800", "abcdefg"),
        ("one\u2028two\u2029three\u0085four", "one\ntwo\nthreefour"),
        ("سلام \u0661\u0600 שלום é e\u0301 ✔\ufe0f 한", "سلام \u0661\u0600 שלום é e\u0301 ✔\ufe0f 한"),
    ],
)
def test_what_is_taken_out(text: str, left: str) -> None:
    assert printable(text) == left


SIGNS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}


def test_nothing_that_cannot_be_seen_is_left() -> None:
    """What turns the direction, joins or hides, halves of a pair: all of Unicode, but signs that have a form."""
    every = [chr(code) for code in range(sys.maxunicode + 1) if code not in SIGNS]
    unseen = [letter for letter in every if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert {letter for letter in every if unicodedata.bidirectional(letter) in turning} <= {*unseen}
    for letter in unseen:
        assert printable(f"a{letter}") in ("a", "a\n", "a\t"), hex(ord(letter))


@given(st.text(st.sampled_from("\x1b[]0;m\x07\\\n\t\r\x9b\x9dPa?\x00")))
def test_no_control_is_left(text: str) -> None:
    found = printable(text)
    assert all(letter in "\n\t" or letter.isprintable() for letter in found)
    assert printable(found) == found


@fault(53, "the cluster's words hold escapes of terminals", promise="no terminal and no log gets them")
def test_every_way_out(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: object) -> None:
    say_aloud(EVIL)
    assert capsys.readouterr().err == f"sheepdog: {GOOD}\n"
    for error in (CommandFailed(EVIL, 1, b"", b""), SchedulerNotFound(EVIL), TaskFailed(EVIL), NotRun(EVIL)):
        assert str(error) == GOOD
    assert str(pickle.loads(pickle.dumps(NotRun(EVIL)))) == GOOD
    outcome = Outcome(
        task=1, kind=Kind.RAISED, value=EVIL.replace("\x00", "").encode(), host=EVIL, output=EVIL.encode()
    )
    text = describe(1, outcome, [outcome])
    assert printable(text) == text
    assert text.count(GOOD) == 5
    assert ErrorText.of(1, outcome, text) == text
    with caplog.at_level(logging.INFO, "sheepdog"):
        dispatch.log.info("scheduler: %s", EVIL)
    assert caplog.messages == [f"scheduler: {GOOD}"]
    record = logging.makeLogRecord({"msg": "%s", "args": (EVIL,)})
    assert Printable().format(record) == GOOD
    assert clean(EVIL) == GOOD
    with Storage(f"{tmp_path}/x.sqlite") as storage:
        request = storage.new_request(b"", b"", [b""])
        storage.set_note(request, EVIL)
        storage.store_events(request, [Event(1.0, What.STOPPED, text=EVIL)])
        assert storage.progress(request).note == GOOD
        assert [event.text for event in storage.events(request)] == [GOOD]


@fault(53, "a request is printed, or is in a traceback", promise="its token is not shown")
def test_no_secret_is_shown(tmp_path: object) -> None:
    with Storage(f"{tmp_path}/x.sqlite") as storage:
        request = storage.get_request(storage.new_request(b"", b"", [b""]))
    assert request.state == RequestState.NEW
    assert len(request.token) == 64
    assert request.token not in f"{request!r} {request}"
