"""A request with ten tasks, and the service that decides on it."""

import pytest

from sheepdog.storage import Storage
from tests.server.decide.farm import Farm


@pytest.fixture
def farm(storage: Storage) -> Farm:
    return Farm(storage, [b"args %d" % index for index in range(1, 11)])
