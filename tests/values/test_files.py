"""What is stored with a request besides its function and arguments."""

from sheepdog.values.files import Needed, made


def test_what_was_made_stays_the_same() -> None:
    content = bytearray(b"before")
    make = made(lambda: bytes(content))
    content[:] = b"after"
    assert make() == make() == b"before"


def test_most_need_nothing() -> None:
    assert (Needed().before, dict(Needed().files)) == (b"", {})
