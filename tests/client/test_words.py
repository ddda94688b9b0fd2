"""Errors in words."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepdog.client.wire.limits import MAX_TEXT
from sheepdog.client.words import explain, shorten
from tests.faults import fault


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Quits(Exception):
    def __str__(self) -> str:
        sys.exit()


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (ValueError("so"), "ValueError: so"),
        (ValueError(), "ValueError"),
        (ValueError("two\nlines  and\ttabs"), "ValueError: two lines and tabs"),
        (KeyError("k"), "KeyError: 'k'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Mute(), "Mute (its message cannot be shown)"),
        (Quits(), "Quits (its message cannot be shown)"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
        (ExceptionGroup("both", [ValueError("one"), KeyError("two")]), "ExceptionGroup: both (2 sub-exceptions)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@fault(
    33,
    "an exception without a message, with lines of it, or whose message cannot be shown",
    promise="one line that says what happened, then the traceback",
)
def test_an_error_begins_with_one_line_that_says_what_happened(error: BaseException, summary: str) -> None:
    first, second = explain(raised(error)).decode().splitlines()[:2]
    assert first == summary
    assert "Traceback" in second or 'File "' in second


def test_the_frames_of_the_worker_are_left_out() -> None:
    text = explain(raised(ValueError("so")), skip=1).decode()
    assert text == "ValueError: so\nValueError: so\n"
    assert explain(ValueError("never raised"), skip=5).decode().startswith("ValueError: never raised\n")


@fault(33, "an exception with a message of megabytes", promise="its beginning and its end are kept")
def test_a_long_error_is_cut_in_its_middle() -> None:
    text = explain(raised(ValueError("first" + "x" * 10**6 + "last"))).decode()
    assert len(text) < MAX_TEXT + 1000
    assert "characters left out" in text
    assert text.rstrip().endswith("last")


def test_the_summary_of_a_long_message_is_one_line() -> None:
    first, second = explain(raised(ValueError("first" + "x" * 1000 + "last"))).decode().splitlines()[:2]
    assert first.startswith("ValueError: first")
    assert second == "Traceback (most recent call last):"


@given(st.text(), st.integers(1, 100))
def test_shortening(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert short == text if len(text) <= limit else "characters left out" in short
    assert short[: limit // 2] == text[: limit // 2]
