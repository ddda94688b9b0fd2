"""What becomes of a task whose attempt has ended: it ends, it is tried again, or the news comes too late.

Attempts end by what workers report, and with workers that are lost.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from ...client import CHECKPOINT, Message
from ...config import Config
from ...values.facts import What
from ...values.model import Kind, Outcome
from ..calls import Call, read_exchange
from .hosts import Change
from .live import LiveRequest
from .policy import FAILURES, FRESH, Past
from .service import Service
from .workers import WorkerSeen

log = logging.getLogger(__name__)

MAX_TEXT = 200  # characters of an error that an event tells
LASTING = 600.0  # seconds after which an outcome shows that submitting workers again has been of use


class Repeat(NamedTuple):
    """An attempt that ended and that another may follow: its task's past with it, and from when on."""

    outcome: Outcome
    past: Past
    due: float


# --- what workers report


def accept(service: Service, live: LiveRequest, worker: str, outcomes: list[Outcome], now: float) -> list[int]:
    """Take note of outcomes: as ends of their tasks, or as attempts that others follow.

    Return the tasks whose outcome changed nothing.
    """
    queue = live.queue
    counted = queue.past or queue.doubtful  # else each was the first attempt
    ends: list[Outcome] = []
    repeats: list[Repeat] = []
    late: list[int] = []
    failed: list[Outcome] = []
    for outcome in outcomes:
        if outcome.kind == Kind.RESULT:
            ends.append(outcome._replace(attempts=queue.may_have_begun(outcome.task)) if counted else outcome)
        elif queue.is_superseded(worker, outcome.task, outcome.attempt):
            if queue.has(outcome.task):
                service.storage.store_attempts(live.request.id, [outcome], counts=False)
            elif outcome.output:
                service.storage.keep_output(live.request.id, outcome)
            late.append(outcome.task)
        else:
            past, delay = live.policy.judge(queue.past.get(outcome.task, FRESH), outcome.kind, outcome.attempt)
            failed.append(outcome)
            if delay is None:
                ends.append(outcome._replace(attempts=past.attempts))
            else:
                repeats.append(Repeat(outcome, past, now + delay))
    live.pace.end([outcome.seconds for outcome in outcomes])
    if outcomes:
        note_host(service, live, outcomes[0].host, len(ends) + len(repeats) - len(failed), failed, now)
    repeat(service, live, worker, repeats)
    if ends:
        late += end(service, live, ends)
    return late


def note_host(service: Service, live: LiveRequest, host: str, good: int, failed: list[Outcome], now: float) -> None:
    """Take note of how tasks ended on a host: so many well."""
    tell_of_host(service, live, live.note_host(host, good, failed, now))


def tell_of_host(service: Service, live: LiveRequest, change: Change | None) -> None:
    """Tell the user of a host that is set aside, or well again."""
    if change is not None:
        log.warning("request %d: %s", live.request.id, change.text)
        live.facts.note(What.SET_ASIDE if change.aside else What.WELL_AGAIN, change.text)
        service.storage.set_note(live.request.id, change.text)


def keep(service: Service, live: LiveRequest, worker: str, messages: list[Message]) -> None:
    """Store what tasks say; but nothing of an attempt that others follow."""
    latest = {
        (task, attempt): live.queue.is_latest(worker, task, attempt)
        for task, attempt in {(message.task, message.attempt) for message in messages}
    }
    kept = [message for message in messages if latest[message.task, message.attempt]]
    if kept:
        service.storage.store_messages(live.request.id, kept)
    advanced = {message.task for message in kept if message.kind == CHECKPOINT}
    for task in advanced & live.queue.past.keys():
        live.queue.past[task] = live.queue.past[task].advanced()
    if advanced:
        note_use(service, live)


def collect(service: Service, call: Call) -> None:
    """Take note of outcomes that a worker left behind because it could not deliver them."""
    live = service.find(call.request)
    if live is None:
        return
    worker, said = str(call.header.get("worker")), read_exchange(call)
    outcomes = [outcome for outcome in said.outcomes if 1 <= outcome.task <= live.request.tasks]
    messages = [message for message in said.messages if 1 <= message.task <= live.request.tasks]
    keep(service, live, worker, messages)
    late = accept(service, live, worker, outcomes, service.clock())
    log.info("request %d: %d outcomes collected, %d of them late", call.request, len(outcomes), len(late))


# --- lost workers


def lose(service: Service, live: LiveRequest, worker: str, why: str) -> None:
    """Take back a lost worker's tasks; end those that have lost so many workers that they may be the cause."""
    seen = live.workers.lose(worker)
    host = seen.host if seen else "?"
    lost = live.queue.drop(worker)
    if seen is not None:
        live.facts.end(worker, seen, f"it was ended: {seen.leaving}" if seen.leaving else why, service.clock())
        if seen.leaving is None:
            tasks = f"{len(lost)} task{'s' * (len(lost) != 1)}"
            live.facts.note(What.LOST, f"on {host}, with {tasks}: {why}", worker=worker)
            tell_of_host(service, live, live.hosts.note(host, 0, ["workers are lost there"], service.clock()))
    if lost:
        log.warning(
            "request %d: worker %s on %s is lost (%s), with %d tasks",
            *(live.request.id, worker[:8], host, why, len(lost)),
        )
    ends: list[Outcome] = []
    repeats: list[Repeat] = []
    for index, attempt in lost:
        before = live.queue.past.get(index, FRESH)
        if attempt <= before.attempts:  # the worker came back with it: this end of the attempt has been counted
            live.queue.repeat(index, before, 0.0)
            continue
        kind = Kind.LOST if seen is None or seen.leaving is None else Kind.INTERRUPTED
        past, delay = live.policy.judge(before, kind, attempt)
        text = words_of_loss(seen, why, past, last=delay is None)
        outcome = Outcome(
            task=index, kind=kind, value=text.encode(), attempt=attempt, host=host, attempts=past.attempts
        )
        if delay is None:
            ends.append(outcome)
            live.facts.note(What.GIVEN_UP, first_line(outcome), index, worker)
        else:
            repeats.append(Repeat(outcome, past, 0.0))
    repeat(service, live, worker, repeats)
    if ends:
        end(service, live, ends)


def words_of_loss(seen: WorkerSeen | None, why: str, past: Past, last: bool) -> str:
    """Return how an attempt ended with its worker. last: no other is to follow."""
    host = seen.host if seen else "?"
    if seen is not None and seen.leaving is not None:
        text = f"its worker on {host} was ended: {seen.leaving}"
        return f"it was interrupted {past.interruptions} times; the last time {text}" if last else text
    if last:
        return f"its worker was lost {past.losses} times, the last one on {host} ({why}): the task may be the cause"
    return f"its worker on {host} was lost: {why}"


def first_line(outcome: Outcome) -> str:
    """Return the first line of an error."""
    return outcome.text.partition("\n")[0][:MAX_TEXT]


def release_doubtful(service: Service, live: LiveRequest) -> None:
    """Let tasks be taken that a worker may have begun of which nobody has heard since the server's restart."""
    text = b"it may have been begun: the server was restarted, and no worker has named the task since"
    found = [
        Outcome(task=index, kind=Kind.LOST, value=text, attempt=attempt)
        for index, attempt in live.queue.release_doubtful()
    ]
    if found:
        service.storage.store_attempts(live.request.id, found, counts=False)


# --- what is stored of it


def repeat(service: Service, live: LiveRequest, worker: str, attempts: list[Repeat]) -> None:
    """Store attempts after which their tasks may be tried again, each from a time on."""
    if attempts:
        service.storage.store_attempts(live.request.id, [each.outcome for each in attempts])
    for outcome, past, due in attempts:
        live.queue.repeat(outcome.task, past, due)
        if outcome.kind in FAILURES or outcome.kind == Kind.LOST:
            live.hosts.shun(outcome.host, outcome.task, due, service.clock())
        live.facts.note(What.REPEATED, first_line(outcome), outcome.task, worker)
    live.queue.wake(service.clock())


def end(service: Service, live: LiveRequest, outcomes: list[Outcome]) -> list[int]:
    """Store outcomes that end their tasks. Return the tasks that had ended before."""
    late = service.storage.store_outcomes(live.request.id, outcomes)
    live.queue.settle(outcome.task for outcome in outcomes)
    if len(late) < len(outcomes):
        note_use(service, live)
    for outcome in outcomes if live.breaker.limit else ():
        reason = live.breaker.feed(outcome)
        if reason and not live.may_be_the_host(service.clock()):
            live.breaker.limit = 0
            service.give_up(live, f"not run: {reason}", kept=False)
            return late
    if live.queue.empty and not live.request.open:
        service.retire(live)
    return late


def note_use(service: Service, live: LiveRequest) -> None:
    """Note that workers have been of use; if for long, submitting them was worth it."""
    if live.tries.fruitless and service.clock() - live.tries.latest > lasting(live.options.config):
        live.tries.begin_anew()
        service.storage.set_fruitless(live.request.id, 0)


def lasting(config: Config) -> float:
    """Return the seconds after which an outcome shows that workers are of use: with a short walltime, half of that."""
    return min(LASTING, config.walltime / 2) if config.walltime else LASTING
