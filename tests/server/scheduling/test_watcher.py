"""The thread of one head node: what is wrong with one request stays there."""

import json
from typing import Any

import pytest

from sheepdog.values.model import JobStatus, RequestState
from tests.faults import fault
from tests.server.scheduling.fakes import INTERVAL, FakeScheduler, Farm

DAMAGED = [
    ("request", "options", '{"sched'),
    ("request", "options", "[]"),
    ("request", "form", "none"),
    ("request", "state", 17),
    ("request", "options", {"host": "a b"}),
    ("request", "options", {"host": ["head"]}),
    ("request", "options", {"scheduler": "lsf"}),
    ("request", "options", {"poll_interval": "soon"}),
    ("request", "options", {"lease": None}),
    ("request", "options", {"maker": "me"}),
    ("request", "options", {"memory": "much", "on_oom": "2x"}),
    ("array_job", "urls", "none"),
    ("array_job", "workers", "many"),
]

WHEN = ["before", *(pytest.param(each, marks=pytest.mark.slow) for each in ("served", "ended"))]


@pytest.mark.parametrize(("table", "column", "value"), DAMAGED)
@pytest.mark.parametrize("when", WHEN)
@fault(
    "damaged request",
    "a row of a request is damaged, or its options fail a newer check",
    promise="it ends with a sentence, or is logged; others on the same head node and elsewhere go on",
)
@pytest.mark.slow
def test_a_damaged_request_is_in_no_others_way(farm: Farm, table: str, column: str, value: Any, when: str) -> None:
    requests = [farm.request(str(number), host=host) for number, host in enumerate(("head", "head", "head", "far"), 1)]
    damaged, *sound = requests
    head, far = farm.put(sound[0], FakeScheduler()), farm.put(sound[2], FakeScheduler())
    waiting = JobStatus(pending=2)
    head.answers = far.answers = dict.fromkeys("1234", waiting)
    if when != "before":
        farm.look()
    if when == "ended":
        farm.finish(damaged)
    options = farm.storage.get_request(damaged).options
    text = json.dumps({**options, **value}) if isinstance(value, dict) else value
    where = "id" if table == "request" else "request"
    with farm.storage.transaction():
        farm.storage.db.execute(f"UPDATE {table} SET {column} = ? WHERE {where} = ?", (text, damaged))
    for _ in range(4):
        farm.look(INTERVAL)
    assert all(farm.state(request) == RequestState.SUBMITTED for request in sound)
    assert {job for jobs in head.asked[-2:] for job in jobs} >= {"2", "3"}
    assert far.asked
    for request in sound:
        farm.finish(request)
    farm.look()
    assert [farm.state(request) for request in sound] == [RequestState.CLOSED] * 3
    if when == "before" and farm.storage.progress(damaged).failed:
        assert all(error.startswith("not run: ") for error in farm.errors(damaged))
