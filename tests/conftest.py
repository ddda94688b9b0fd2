"""What every test may ask for."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster, unavailable
from .user import User


def pytest_configure(config: pytest.Config) -> None:
    # Who runs the tests in the background of a script has SIGINT ignored, and so would have all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "fault(id, what, promise): the fault that the test shows; see tests/faults.py")


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


@pytest.fixture(scope="session")
def slurm_cluster(cluster_possible: None) -> Iterator[Cluster]:
    """A test cluster with Slurm and its accounting; keep it as the other one."""
    with Cluster(scheduler="slurm") as cluster:
        yield cluster


@pytest.fixture
def slurm_user(slurm_cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    """Somebody at the outside host of the cluster with Slurm."""
    user = User(slurm_cluster, tmp_path)
    yield user
    user.leave()


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    """Somebody at the outside host, with a directory of their own there; what they leave running is taken away."""
    user = User(cluster, tmp_path)
    yield user
    user.leave()
