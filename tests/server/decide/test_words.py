"""What a request's user is told of its workers."""

from sheepdog.server.decide.words import last_words, never_joined, situation
from tests.server.decide.lives import array, call, hear, lose, make_live, says


def test_the_situation() -> None:
    live = make_live(arrays=(array(),))
    assert situation(live) == ""
    hear(live, says(pending=3, reason="no slots"))
    assert situation(live) == "3 workers wait in the queue of hive (array job job1): no slots"
    hear(live, says(pending=3, held=True))
    assert situation(live) == "3 workers wait in the queue of hive (array job job1, on hold)"
    live.reasons.waiting = "queue full"
    assert situation(live) == "3 workers wait in the queue of hive (array job job1, on hold): queue full"
    hear(live, says(1, 2))
    assert situation(live).startswith("2 workers run, but none has reached https://here:1: ")
    live.reasons.overheard = "cannot reach it (No route to host)"
    assert situation(live).endswith("(options localhost and port) They say: cannot reach it (No route to host)")
    live.workers.take()
    assert situation(live).startswith("2 workers run, but no longer any has reached https://here:1: ")
    lose(live, 1, 2)
    assert situation(live) == ""
    hear(live, says(broken=True, reason="Eqw"))
    assert situation(live) == "workers cannot start: Eqw; queue full"
    live.reasons.unanswered = "the scheduler has not answered since 12:00: no"
    assert situation(live) == live.reasons.unanswered


def test_why_no_worker_has_come() -> None:
    live = make_live(arrays=(array(),))
    where = "What its workers said is in hive:d"
    assert last_words(live) == where
    question = "no worker has called. Is /usr/bin/python3 a Python there, and the option `shell` right?"
    assert never_joined(live) == f"not run: {question} {where}"
    live.reasons.ended = "it was deleted"
    assert never_joined(live) == f"not run: it was deleted; no worker has called. {where}"
    hear(live, says(1))
    live.reasons.ended = "it ended"
    assert never_joined(live) == f"not run: it ended; {question} {where}"
    hear(live, says(reason="it ended", explained=True))
    assert never_joined(live) == f"not run: it ended; no worker has called. {where}"
    hear(live, says(reason="it ended"))
    assert never_joined(live) == f"not run: it ended; {question} {where}"
    call(live, 1)
    live.workers.refuse("1.1", "another Python")
    assert never_joined(live) == "another Python"
