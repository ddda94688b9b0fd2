"""The worker: fetches tasks from the server, runs them in a child process, reports their outcomes.

This package travels to the cluster as source, in one archive, and runs there on a bare Python, 3.6 or newer. It imports
the standard library and nothing else. What is named here is what both ends must agree on (the frames, how a value is
dumped, the kinds of outcome): the host imports that from here.

    server  <-- exchange(outcomes, want) -- PARENT  -- tasks, tokens -->  CHILD
            --- tasks ------------------->          <-- outcomes --------  runs the function

What tasks say while they run takes the road of the outcomes, before these.

The parent talks: heartbeats, outcomes, retries. The child runs the function, and may die of it: the parent reports
that as the task's outcome and forks another. A task is the child's once it has read a token for it from a pipe; a
token that the parent reads back first is a task recalled. So neither can believe that the other has it.

What is decided here, and where:

    Target            how a task ended, if its process is alive to say so
    Surroundings      whether the function left its process fit for another task; if not, a fresh child takes over
    autopsy           how a task ended whose process cannot say it: it died, or was ended for its time
    Worker.step       what to do next: give tasks to the child, listen to it, or call the server
    Worker.leave      the same for a worker that has been warned, or whose walltime nears its end: deliver, and end
    Link              what a reply or a failure means: later, over, or refused
    Rhythm            when to call, when to try again, and when to give up

Run as: python client.pyz DIRECTORY ELEMENT. The directory holds secret.json (see schedulers/job_file.py) and
cloudpickle.zip; the element is the name of this copy within its array job.
"""

from .function import BY_NAME, PICKLE
from .job import OURS, THERE, Call, JobBase, Run, run_any
from .wire.frames import chunks_of, pack, read_blob, size_of, unpack
from .wire.limits import CHUNK, IN_MEMORY, MAX_BATCH, MAX_CALL, MAX_HEADER, MAX_VALUE, PROTOCOL
from .wire.messages import CHECKPOINT, REPORT, Message
from .wire.outcomes import DELETED, DIED, INTERRUPTED, MEMORY, RAISED, RESULT, TIMEOUT, Outcome
from .wire.pythons import describe_python
from .wire.values import dump, load, make_pickler

__all__ = [
    "BY_NAME",
    "CHECKPOINT",
    "CHUNK",
    "DELETED",
    "DIED",
    "INTERRUPTED",
    "IN_MEMORY",
    "MAX_BATCH",
    "MAX_CALL",
    "MAX_HEADER",
    "MAX_VALUE",
    "MEMORY",
    "OURS",
    "PICKLE",
    "PROTOCOL",
    "RAISED",
    "REPORT",
    "RESULT",
    "THERE",
    "TIMEOUT",
    "Call",
    "JobBase",
    "Message",
    "Outcome",
    "Run",
    "chunks_of",
    "describe_python",
    "dump",
    "load",
    "make_pickler",
    "pack",
    "read_blob",
    "run_any",
    "size_of",
    "unpack",
]
