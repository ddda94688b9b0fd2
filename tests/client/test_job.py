"""A job's base on the workers, and its name in pickles."""

import pickle

from sheepdog import Job, client
from sheepdog.client import THERE, JobBase


def test_the_name_that_stands_in_old_pickles_is_the_job_s_base() -> None:
    """Databases hold functions, and workers of older versions run, that know it as _sheepdog_worker.job.Call."""
    assert Job.stands_for == (THERE, "Call")
    assert THERE.encode() in client.dump(Job)
    assert b"Call" in client.dump(Job)
    assert pickle.loads(b"csheepdog.client.job\nCall\n.") is JobBase
