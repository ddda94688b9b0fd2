"""What every test may ask for."""

import os
from collections.abc import Iterator

import pytest

from .cluster import Cluster, unavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the cluster, so that `-m "not cluster"` leaves it out."""
    for item in items:
        if "cluster_possible" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def cluster_possible() -> None:
    """Skip what needs the cluster where there can be none; but in CI there must be one."""
    if reason := unavailable():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def cluster(cluster_possible: None) -> Iterator[Cluster]:
    """The test cluster, one for the whole run. Leave its hosts up, its cables in and its queue empty."""
    with Cluster() as cluster:
        yield cluster
