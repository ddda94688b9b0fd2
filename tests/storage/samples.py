"""What the tests of the store share: requests, and programs beside them."""

import subprocess
import sys

from sheepdog.storage import Storage
from sheepdog.values.model import RequestState

LARGE = 20_000_000


def request_of(storage: Storage, count: int) -> int:
    """Store a request of so many tasks and return its id."""
    return storage.new_request(b"f", b"ns", [b"args %d" % number for number in range(1, count + 1)])


def unfinished(storage: Storage) -> list[int]:
    """Return the requests that have not ended."""
    return storage.requests(RequestState.NEW, RequestState.SUBMITTED)


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python of its own."""
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
