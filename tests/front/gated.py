"""A request whose first tasks end, and whose others wait for a file."""

from pathlib import Path

import sheepdog
from sheepdog.storage import Storage
from sheepdog.values.model import RequestState
from tests.local import DB
from tests.tasks import gated
from tests.waiting import until


def start(place: Path, tasks: int = 6, free: int = 2, **config: object) -> int:
    """Start a request of which the first tasks end, and the others wait; return when only those are left."""
    request_id = sheepdog.map_async(gated, [(i, str(place), free) for i in range(tasks)], {"workers": 2, **config})
    with Storage(DB) as storage:
        until(lambda: storage.progress(request_id).done == free, "the first tasks are done")
    until(lambda: len(runs(place)) > free, "another task runs")
    return request_id


def runs(place: Path) -> list[int]:
    file = place / "ran"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def results(request_id: int) -> list[object]:
    return [result for _, result in sheepdog.get_results(request_id, DB)]


def state(request_id: int) -> RequestState:
    with Storage(DB) as storage:
        return storage.get_request(request_id).state


def token(request_id: int) -> str:
    with Storage(DB) as storage:
        return storage.get_request(request_id).token
