"""What the tests on the cluster may ask for."""

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster


@pytest.fixture
def ran(cluster: Cluster) -> Iterator[None]:
    """Take away the lines that tasks leave when they run, which ran_so_far reads."""
    file = cluster.home_of("sheep") / "ran"
    file.unlink(missing_ok=True)
    yield
    file.unlink(missing_ok=True)
