"""The store: requests, tasks and what came of them, in one SQLite file. Every SQL statement is in this package."""

from .storage import Storage

__all__ = ["Storage"]
