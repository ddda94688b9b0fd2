"""How large a batch of tasks is that a worker gets."""

from __future__ import annotations

from ...client import MAX_BATCH

PARTS = 50  # of a batch as its worker wants it: a smaller part is not worth a call of its own


def share(ready: int, holders: int, want: int) -> int:
    """Return how many of the ready tasks to lease to a worker that wants so many; holders are all workers with leases.

    Half of what is ready is shared out fairly, so that batches get smaller towards the end. As long as there is more
    than a call can carry, none is so small that the call costs more than the work.
    """
    fair = -(-ready // (2 * max(1, holders)))
    if ready > MAX_BATCH:
        fair = max(fair, want // PARTS)
    return max(1, min(want, fair, MAX_BATCH))
