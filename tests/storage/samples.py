"""Requests for the tests of the store."""

from sheepdog.storage import Storage


def request_of(storage: Storage, count: int) -> int:
    """Store a request of so many tasks and return its id."""
    return storage.new_request(b"f", b"ns", [b"args %d" % number for number in range(1, count + 1)])
