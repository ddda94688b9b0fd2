"""What a user is told while they wait."""

import pytest

from sheepdog.front.terminal import notes, say_once, ticker
from sheepdog.values.model import Progress


def test_each_text_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    say = say_once(True)
    for text in ("baa", "", "moo", "baa"):
        say(text)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "sheepdog: baa\nsheepdog: moo\n")


def test_who_wants_no_words_gets_none(capsys: pytest.CaptureFixture[str]) -> None:
    say_once(False)("baa")
    notes(say_once(False))(Progress(1, 0, 0, note="workers wait"))
    assert capsys.readouterr().err == ""


def test_the_notes_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    show = notes(say_once(True))
    for note in ("", "workers wait", "workers wait", ""):
        show(Progress(1, 0, 0, note=note))
    assert capsys.readouterr().err == "sheepdog: workers wait\n"


def test_how_far_it_is_every_time_with_an_interval_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show = ticker(0.0, say_once(True))
    show(Progress(3, 1, 0, running=1, hosts=("node1",)))
    show(Progress(3, 1, 1, note="workers wait"))
    assert capsys.readouterr().err.splitlines() == [
        "sheepdog: 1/3 results, 0 errors; 1 run on 1 host, 1 wait",
        "sheepdog: workers wait",
        "sheepdog: 2/3 results, 1 errors; 1 wait",
    ]


def test_a_long_interval(capsys: pytest.CaptureFixture[str]) -> None:
    """What ends before it says nothing, not even at its end."""
    show = ticker(1000.0, say_once(True))
    show(Progress(3, 1, 0))
    show(Progress(3, 3, 0))
    assert capsys.readouterr().err == ""


def test_who_was_told_something_is_told_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    show = ticker(10.0, say_once(True))
    for later, done in ((9, 1), (1, 2), (1, 2), (1, 3)):
        now[0] += later
        show(Progress(3, done, 0))
    assert capsys.readouterr().err == "sheepdog: 2/3 results, 0 errors; 1 wait\nsheepdog: 3/3 results, 0 errors\n"
