"""Outcomes: how tasks end."""

import collections

# The kinds of outcome, on the wire.
RESULT, RAISED, DIED, MEMORY, TIMEOUT, INTERRUPTED = range(6)
# RESULT       the function returned, and this is what
# RAISED       the function raised; or it, its arguments or its result cannot travel
# DIED         its process ended under it: by a signal, or by its own os._exit
# MEMORY       MemoryError, or the kernel ended its process for want of memory
# TIMEOUT      it took longer than its timeout, and was ended
# INTERRUPTED  the worker had to end while it ran; the task is not to blame

Outcome = collections.namedtuple("Outcome", "task attempt kind seconds value output signal status peak")
# signal  by which its process was ended; 0 if it was not
# status  with which it exited, or its process did; None if neither did
# peak    bytes of memory that its process had at most, if it failed, or made it more; else, or if nobody knows, 0
Outcome.__new__.__defaults__ = (0, None, 0)

DELETED = "deleted, or its time was over"
"""What a worker says that was warned by a signal as they come before the end of a job."""

INTERRUPTION = "the worker was ended while the task ran: "
