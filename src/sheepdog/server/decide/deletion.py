"""Whether an array job has ended because somebody deleted it, on purpose and as a whole: then it is not to come back.

That is told from the elements that were there when the scheduler last listed it. Such an element was deleted if the
scheduler says so, if its worker was warned and no limit was the cause, or if it waited and then was no more.
"""

from __future__ import annotations

from collections.abc import Collection

from ...values.model import Fate, JobStatus


def is_deletion(
    names: Collection[str],
    before: JobStatus | None,
    gone: JobStatus,
    warned: Collection[str] = (),
    called: Collection[str] = (),
    dismissed: Collection[str] = (),
) -> bool:
    """Tell whether a job of these elements that is gone was deleted.

    before is what the scheduler said of it last while it was there; None if it has never listed it. warned are the
    elements whose workers said that they were; called those from which a worker has called at all; dismissed those
    whose workers were told to end.
    """
    fates = {end.element: end.fate for end in gone.ends}
    listed = before or JobStatus(pending=len(names))
    deleted = {name for name, fate in fates.items() if fate == Fate.DELETED} | listed.deleting
    if gone.unlimited:
        deleted |= {name for name in warned if fates.get(name) != Fate.OTHER}
    if gone.ends or not gone.started:
        waited = {*names} - listed.running - fates.keys() - {*called}
        if len(waited) <= listed.pending:
            deleted |= waited
    there = listed.running if before else {*names}
    return bool(deleted) and deleted >= there - {*dismissed}
