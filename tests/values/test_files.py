"""What is stored with a request besides its function and arguments."""

import pytest

from sheepdog.errors import FilesChanged
from sheepdog.values.files import TRIES, Needed, made, undisturbed


def test_what_was_made_stays_the_same() -> None:
    content = bytearray(b"before")
    make = made(lambda: bytes(content))
    content[:] = b"after"
    assert make() == make() == b"before"


def test_what_changes_meanwhile_is_made_anew_but_not_for_ever() -> None:
    changes = ["once", "twice", "for ever"]

    def make() -> str:
        if changes:
            raise FilesChanged(changes.pop(0))
        return "made"

    with pytest.raises(FilesChanged, match="for ever"):
        undisturbed(make)
    assert not changes
    changes += ["again"] * (TRIES - 1)
    assert undisturbed(make) == "made"


def test_most_need_nothing() -> None:
    assert (Needed().before, dict(Needed().files)) == (b"", {})
