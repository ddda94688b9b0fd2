"""What becomes of the directories of array jobs when their requests have ended. No I/O."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class DirectoryState(IntEnum):
    """What is to become of an array job's directory on its host. The numbers are stored."""

    IN_USE = 0
    KEPT = 1
    """What tells of failures is there, until it is removed or too old."""
    TO_TIDY = 2
    """What is needless is to go."""
    TO_REMOVE = 3


@dataclass(frozen=True, slots=True)
class LeftDirectory:
    """The directory of an array job whose request has ended, or is no more."""

    name: str
    """The array job's."""
    job: str
    """The scheduler's id of it; empty if it was not submitted, as far as is known."""
    options: dict[str, Any]
    """Of its request."""
    state: DirectoryState
    removed: bool
    """Whether its request is no more."""
