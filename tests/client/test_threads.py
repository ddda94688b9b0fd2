"""How large thread pools are."""

import pytest

from sheepdog.client.threads import POOLS, cpus_of, pool_sizes


@pytest.mark.parametrize(
    ("environ", "cpus"),
    [
        ({}, 1),
        ({"NSLOTS": "4"}, 4),
        ({"SLURM_CPUS_PER_TASK": "8"}, 8),
        ({"NCPUS": "2", "HOME": "/"}, 2),
        ({"NSLOTS": "many"}, 1),
        ({"NSLOTS": "0"}, 1),
    ],
)
def test_the_cores_that_a_scheduler_has_given(environ: dict[str, str], cpus: int) -> None:
    assert cpus_of(environ) == cpus


def test_every_pool_has_a_size() -> None:
    assert pool_sizes(3) == dict.fromkeys(POOLS, "3")
