"""What the tests on the cluster may ask for."""

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster


@pytest.fixture
def ran(cluster: Cluster) -> Iterator[None]:
    """Take away the lines that tasks leave when they run, which ran_so_far reads."""
    yield
    (cluster.home_of("sheep") / "ran").unlink(missing_ok=True)
