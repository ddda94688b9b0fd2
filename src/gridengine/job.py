"""Job, whose arguments may come in gridengine's order, too."""

from typing import Any

import sheepdog


class Job(sheepdog.Job):
    """Takes what sheepdog.Job takes. The first argument may also be the target, and the second the name."""

    stands_for = sheepdog.Job.stands_for

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*((None, *args) if args and args[0] is not None else args), **kwargs)
