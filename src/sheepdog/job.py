"""The name of old of front.job."""

from .front.job import Job, dispatch_jobs

__all__ = ["Job", "dispatch_jobs"]
