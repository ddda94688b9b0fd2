"""What the tests of the whole may ask for."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local import servers_of, workers_of
from tests.server.decide.conftest import farm as farm
from tests.waiting import until


@pytest.fixture
def killed(place: Path) -> Iterator[None]:
    """Whatever serves or works there is killed at the end: a server with a broken disk does not stop."""
    yield
    for pid in [*servers_of(place), *workers_of(place)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not servers_of(place), "the servers have ended")
