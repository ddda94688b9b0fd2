"""Checks of values, and the readers of a variable's text."""

from pathlib import Path
from typing import Any

import pytest

from sheepdog.config import checks
from sheepdog.config.checks import Check


@pytest.mark.parametrize(
    ("check", "given", "kept"),
    [
        (checks.whole(1, 9), 9, 9),
        (checks.seconds("0 or more", 0), 3, 3.0),
        (checks.path(checks.dbfile), Path("db"), "db"),
        (checks.host, "anna@fear.example.org", "anna@fear.example.org"),
        (checks.user, "LAB\\anna", "LAB\\anna"),
        (checks.ssh_dir, "work//./jobs/", "work/jobs"),
        (checks.ssh_dir, "/scratch/me", "/scratch/me"),
        (checks.time, 90, "90"),
        (checks.memory, "16g", "16G"),
        (checks.command, "python3 -I 'a b'", "python3 -I 'a b'"),
        (checks.flag, False, False),
        (checks.optional(checks.port, "a free one"), None, None),
    ],
)
def test_what_is_kept(check: Check, given: object, kept: object) -> None:
    found = check(given)
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("check", "given", "words"),
    [
        (checks.whole(1, 9), 10, "a whole number from 1 to 9"),
        (checks.whole(0, 9), True, "a whole number from 0 to 9"),
        (checks.whole(0, 9), 3.0, "a whole number from 0 to 9"),
        (checks.seconds("0 or more", 0), float("nan"), "0 or more and at most"),
        (checks.seconds("0 or more", 0), True, "0 or more and at most"),
        (checks.host, "-oProxyCommand=baa", "not beginning with"),
        (checks.host, "fear\n", "a host's name"),
        (checks.user, "anna smith", "a user's name"),
        (checks.name, "a" * 65, "at most 63"),
        (checks.scheduler, "lsf", '"slurm"'),
        (checks.link, "spool", '"relay"'),
        (checks.printable, " ", "one line"),
        (checks.command, "python3 'open", "quoted as for a shell"),
        (checks.ssh_dir, "a/../b", "without"),
        (checks.ssh_dir, "~/jobs", "without ~"),
        (checks.ssh_dir, "./-x", "must not begin"),
        (checks.dbfile, ":memory:", "another process"),
        (checks.dbfile, "a\0b", "the path of a file"),
        (checks.time, 0, "must be"),
        (checks.memory, 2, "at least 1M"),
        (checks.factor, 2, "must be"),
        (checks.flag, 1, "True or False"),
        (checks.optional(checks.port, "a free one"), 0, "to 65535, or left out for a free one"),
    ],
)
def test_what_is_refused(check: Check, given: object, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("-q long", "write ['-q long']"),
        (None, "write ['-P flock']"),
        (["long"], "begins with"),
        (["-q long\n#$ -q all"], "one line"),
        (["-N 'a"], "quotes closed"),
        ([3], "not 3"),
    ],
)
def test_raw_options_that_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        checks.options(given, "qsub", "-P flock")
    assert words in str(caught.value)


def test_raw_options() -> None:
    assert checks.options(["-q long", "-P 'my flock'"], "qsub", "-P flock") == ("-q long", "-P 'my flock'")


@pytest.mark.parametrize(
    ("reader", "given", "value"),
    [
        (checks.read_whole, "12", 12),
        (checks.read_whole, "twelve", "twelve"),
        (checks.read_number, "1.5", 1.5),
        (checks.read_number, "soon", "soon"),
        (checks.read_flag, "Yes", True),
        (checks.read_flag, "0", False),
        (checks.read_flag, "perhaps", "perhaps"),
        (checks.read_options, "-q a; -P b\n\n", ["-q a", "-P b"]),
    ],
)
def test_readers(reader: checks.Reader, given: str, value: object) -> None:
    """What they cannot read they give back, for the check to refuse."""
    assert reader(given) == value


def test_a_value_is_shown_in_short() -> None:
    assert len(checks.short("baa" * 1000)) <= 62
