"""A database that is there."""

from pathlib import Path

import pytest

from sheepdog.storage import Storage
from tests.storage.samples import request_of


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A database with a request, which nobody has open."""
    with Storage(tmp_path / "db") as storage:
        request_of(storage, 2)
        storage.set_settings(port=4000, certificate="C", key="K")
    return tmp_path / "db"
