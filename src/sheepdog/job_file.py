"""The name of old of schedulers.job_file."""

from .schedulers.job_file import Job, job_file, secret, submit_script, worker_files

__all__ = ["Job", "job_file", "secret", "submit_script", "worker_files"]
