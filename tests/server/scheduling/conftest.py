"""A head node without a scheduler, and requests on it."""

from pathlib import Path

import pytest

from sheepdog.storage import Storage
from tests.schedulers.head import Head
from tests.server.scheduling.fakes import Farm


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    """A PATH without a scheduler, and a home."""
    place = tmp_path / "head"
    place.mkdir()
    head = Head(place, monkeypatch)
    (head.home / "no cache").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(head.home / "no cache"))  # turns are taken in real time: see test_turns.py
    return head


@pytest.fixture
def farm(storage: Storage, head: Head) -> Farm:
    return Farm(storage, head.home)
