"""What a request's user is told of its workers, in sentences."""

from __future__ import annotations

from .live import LiveRequest


def situation(live: LiveRequest) -> str:
    """Return why there are no workers, in a sentence for the user; an empty text if nothing can be said."""
    jobs, reasons = live.jobs, live.reasons
    if reasons.unanswered:
        return reasons.unanswered
    said = [status.reason for status in jobs.statuses.values() if status.reason and not status.gone]
    said += [reasons.waiting] if reasons.waiting else []
    because = f": {'; '.join(said)}" if said else ""
    if jobs.is_broken:
        return f"workers cannot start{because}"
    if live.running:
        return unreached(live)
    if jobs.pending:
        held = ", on hold" if jobs.held else ""
        names = ", ".join(array.job for array in jobs.there.values())
        return f"{jobs.pending} workers wait in the queue of {head_node(live)} (array job {names}{held}){because}"
    return ""


def unreached(live: LiveRequest) -> str:
    """Return that workers run which do not call, with what may be the reason."""
    reasons = live.reasons
    urls = " or ".join(url for array in live.jobs.there.values() for url in array.urls)
    none = "no longer any" if live.workers.joined else "none"
    their = f" They say: {reasons.overheard}" if reasons.overheard and not live.workers.joined else ""
    run = f"{len(live.running)} workers run, but {none} has reached"
    if not live.options.calls:
        why = no_relay(live) or f"can they connect to that port of {head_node(live)}?"
        return f"{run} {urls or 'this machine'}: {why}{their}"
    relay = no_relay(live)
    return (
        f"{run} {urls}: is that name known there, and the port open? (options localhost and port)"
        f"{relay and f' And {relay}.'}{their}"
    )


def no_relay(live: LiveRequest) -> str:
    """Return why there is no relay; an empty text if there is one, or none is wanted."""
    why = live.reasons.relay
    return f"there is no relay on {head_node(live)}: {why}" if why else ""


def never_joined(live: LiveRequest) -> str:
    """Return why no worker has ever joined, as far as is known."""
    for why in live.workers.refused.values():
        return why  # it says more than how the array job ended
    why = "no worker has called"
    waited = live.reasons.ended and not live.jobs.started  # it was deleted while it did
    if not (waited or live.jobs.explained):
        options = live.options
        if options.interpreter.command:
            why += f". Is {options.command} on the nodes, too? If not, name one that is with the option `shell`."
        else:
            shell = options.config.shell or options.command
            why += f". Is {shell} a Python there, and the option `shell` right?"
    end = "" if why.endswith(("?", ".")) else "."
    return f"not run: {'; '.join(filter(None, (live.reasons.ended, why)))}{end} {last_words(live)}"


DELETED_BY = {"gridengine": "qdel", "slurm": "scancel"}


def words_of_deletion(live: LiveRequest, number: int) -> str:
    """Return that an array job was deleted."""
    command = DELETED_BY.get(live.options.scheduler)
    return f"the array job {live.jobs.there[number].job} was deleted{f' ({command})' if command else ''}"


def last_words(live: LiveRequest) -> str:
    """Return where to read on."""
    return f"What its workers said is in {head_node(live)}:{live.jobs.directory}"


def head_node(live: LiveRequest) -> str:
    """Return the name of a request's head node."""
    return live.options.config.host or "this machine"
