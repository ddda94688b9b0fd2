"""Messages: what tasks say while they run."""

import collections

from .frames import size_of

# The kinds of message, on the wire. In the child's pipe they are told from kinds of outcome.
REPORT, CHECKPOINT = 16, 17
# REPORT       a value for whoever made the request
# CHECKPOINT   a value from which the next attempt of the task can go on

Message = collections.namedtuple("Message", "task attempt kind number value")
# number: grows from one message of an attempt to the next

OVERHEAD = 500  # bytes of memory for a message beside its value, about


def weight(message: Message) -> int:
    """Return how many bytes of memory, or of a temporary file, a message takes."""
    return OVERHEAD + size_of(message.value)
