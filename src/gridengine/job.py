"""Job, as gridengine had it: its arguments may come in that order, and a subclass need not call super().__init__()."""

from __future__ import annotations

from typing import Any, Self

import sheepdog


class Number:
    """The attribute id, beside which a job may have one of its own."""

    def __get__(self, job: Job | None, _: type[Job] | None = None) -> int | None:
        return None if job is None or job._place is None else job._place[2]


class Job(sheepdog.Job):
    """Takes what sheepdog.Job takes. The first argument may also be the target, and the second the name.

    mutable is kept, and changes nothing: a job that returns itself brings its attributes back. id is the job's number
    among those that were dispatched together, from 1; None before.
    """

    stands_for = sheepdog.Job.stands_for

    id = Number()

    def __new__(cls, *_: Any, **__: Any) -> Self:
        job = super().__new__(cls)
        vars(job).update(_target=None, _args=(), _kwargs={}, _name=cls.__name__, _daemon=False, mutable=False)
        return job

    def __init__(self, *args: Any, mutable: bool = False, **kwargs: Any) -> None:
        super().__init__(*((None, *args) if args and args[0] is not None else args), **kwargs)
        self.mutable = mutable
