"""The names of the gridengine library, over Sheepdog: a map, Jobs, their dispatcher, and schedulers.

import gridengine
squares = gridengine.map(f, [1, 2, 3], scheduler=gridengine.schedulers.best_available())
"""

from . import dispatch, functional, job, schedulers
from .dispatch import JobDispatcher
from .functional import map
from .job import Job
from .schedulers import GridEngineScheduler, ProcessScheduler, SlurmScheduler, TimeoutError

__all__ = [
    "GridEngineScheduler",
    "Job",
    "JobDispatcher",
    "ProcessScheduler",
    "SlurmScheduler",
    "TimeoutError",
    "dispatch",
    "functional",
    "job",
    "map",
    "schedulers",
]
