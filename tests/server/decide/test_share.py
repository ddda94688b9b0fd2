"""How large a batch is, in numbers."""

import pytest

from sheepdog.client import MAX_BATCH
from sheepdog.server.decide.share import share


@pytest.mark.parametrize(
    ("ready", "holders", "want", "expected"),
    [
        (10, 1, 20, 5),  # half of what is ready
        (5, 2, 20, 2),  # ... shared with the others, rounded up
        (5, 2, 1, 1),  # no more than it wants
        (1, 50, 20, 1),  # one at least
        (0, 1, 20, 1),
        (8, 0, 20, 4),  # the first worker
        (MAX_BATCH, 1000, 1000, 1),
        (MAX_BATCH + 1, 1000, 1000, 20),  # a fiftieth of what it wants while there is plenty
        (10_000_000, 2, 1 << 20, MAX_BATCH),  # what a call can carry
    ],
)
def test_the_share(ready: int, holders: int, want: int, expected: int) -> None:
    assert share(ready, holders, want) == expected


def test_the_batches_get_smaller_towards_the_end() -> None:
    ready, batches = 1000, []
    while ready:
        batches.append(share(ready, 4, 200))
        ready -= batches[-1]
    assert batches == sorted(batches, reverse=True)
    assert (batches[0], batches[-1]) == (125, 1)
