"""A store of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sheepdog.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage(tmp_path / "db") as storage:
        yield storage
