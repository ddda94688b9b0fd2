"""A server of a request, for tests that make raw connections to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire import Make, Wire


@pytest.fixture
def make(servers: None, tmp_path: Path) -> Iterator[Make]:
    """Make a request, and wires to a server of it that is to be started."""
    made: list[Wire] = []

    def make(**options: Any) -> Wire:
        made.append(Wire(tmp_path / f"db{len(made)}", **options))
        return made[-1]

    yield make
    for wire in made:
        wire.made.close()


@pytest.fixture
def wire(make: Make) -> Wire:
    """A server as it is."""
    return make().start()
