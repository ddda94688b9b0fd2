"""The store: one SQLite file, and the rooms that know its tables. Every SQL statement of the project is beside this."""

from .arrays import Arrays
from .documented import Documented
from .history import History


class Storage(Arrays, History, Documented):
    """Requests, tasks and outcomes in one file. Use it in one thread; other threads and processes open their own.

    Values are bytes and come back as they were. Task indices start at 1. A request or a task that does not exist is
    a RequestNotFound, which is a ValueError.
    """
