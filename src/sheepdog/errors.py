"""Every exception that Sheepdog raises.

SheepdogError
├── ConfigError (ValueError)          a key or value of the configuration is wrong
├── ArgumentsError (TypeError)        an item of args is not a tuple, list or dict
├── SerialisationError (TypeError)    a function, argument or result cannot travel
│   └── FilesChanged                 ... because a file of the user's own changes while it is packed
├── JobError (AssertionError, RuntimeError, ValueError)   a Job is used out of turn
├── NoMainGuard (RuntimeError)        a module makes a request whenever a worker imports it
├── UntrustedResult                   a value is not plain data, and nothing else was to be loaded
├── RequestNotFound (ValueError)      no such request, or no such task, in this database
├── DamagedRequest                    what is stored of one request is not what was written
├── StorageError                      the database file cannot be used
│   ├── DamagedError                  ... because its content is not what was written
│   ├── StorageBusy                   ... now, but may be later: it is locked, or the disk is full
│   ├── NotOwnFile                    ... because it, or a file beside it, is not the user's alone
│   └── NotOwnRequest                 ... to run what another account, machine or file asks for
├── ServerError (RuntimeError)        the server cannot run
│   └── PortInUse                     ... because its port is taken
├── TaskFailed                        a task ended without a result
│   └── NotRun                        ... because it could not be run; or no task of a request could
├── HostError                         a machine cannot be reached
│   ├── CommandFailed                 it was reached, and the command failed there
│   └── ConnectionLost                the connection broke; the command may have run
└── SchedulerError                    the batch system did not take or does not know the array job
    ├── SchedulerNotFound (FileNotFoundError)   there is none
    ├── UnknownResource (ValueError)  ... because the site has no such resource
    ├── SchedulerBusy                 ... but may take it later
    └── TooManyWorkers                ... but would take a smaller one
"""

from .printable import printable


class SheepdogError(Exception):
    """Any error of Sheepdog's own."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(SheepdogError, ValueError):
    """A key or value of the configuration is wrong."""


class ArgumentsError(SheepdogError, TypeError):
    """An item of args is not a tuple, a list or a dict."""


class SerialisationError(SheepdogError, TypeError):
    """A function, an argument or a result cannot travel."""


class FilesChanged(SerialisationError):
    """A file of the user's own is not what it was a moment ago, when it was listed among those that travel."""


class JobError(SheepdogError, AssertionError, RuntimeError, ValueError):
    """A job is used out of turn: started twice, waited for before its start, used after close.

    multiprocessing raises an AssertionError or a ValueError for such, and threading a RuntimeError: this is all three.
    """


class NoMainGuard(SheepdogError, RuntimeError):
    """A module makes a request when it is imported, and a worker imports it: that would go on without end."""


class UntrustedResult(SheepdogError):
    """A value is not plain data, and nothing else was to be loaded: to load it may run code."""


class RequestNotFound(SheepdogError, ValueError):
    """There is no such request or task in this database."""


class DamagedRequest(SheepdogError):
    """What is stored of one request is not what was written, or not what this version can read."""


class StorageError(SheepdogError):
    """The database file cannot be used."""


class StorageBusy(StorageError):
    """The database file cannot be used now, and may be usable later: it is locked, or the disk is full."""


class DamagedError(StorageError):
    """The content of the database file is not what was written."""


class NotOwnFile(StorageError):
    """A file is another user's, or others can write it, or it is no regular file: nothing in it is believed."""


class NotOwnRequest(StorageError):
    """A request was not made by this account on this machine in this database file: nothing of it is run."""


class ServerError(SheepdogError, RuntimeError):
    """The server cannot run."""


class PortInUse(ServerError):
    """Another program listens on the server's port."""


class TaskFailed(SheepdogError):
    """A task ended without a result. The message is its error as text, as get_errors tells it.

    request and task are its numbers; kind is how it ended, a model.Kind. signal is what its process died of, 0 if of
    none; status what it exited with, None if it did not, or that is not known; peak the bytes of memory that its
    process had at most, 0 if they are not known, or if an earlier task of the process had more.
    """

    def __init__(
        self,
        message: str,
        request: int = 0,
        task: int = 0,
        kind: int = 0,
        signal: int = 0,
        status: int | None = None,
        peak: int = 0,
    ) -> None:
        super().__init__(message, request, task, kind, signal, status, peak)
        self.request = request
        self.task = task
        self.kind = kind
        self.signal = signal
        self.status = status
        self.peak = peak

    def __str__(self) -> str:
        return printable(str(self.args[0]))


class NotRun(TaskFailed):
    """A task could not be run, for a reason that is not its own. task is 0 if no task of the request could be run."""


class HostError(SheepdogError):
    """A machine cannot be reached, or does not answer in time."""


class CommandFailed(HostError):
    """A command ran on a host and ended with another status than 0.

    status is its exit status; output and errors are the bytes it wrote.
    """

    def __init__(self, message: str, status: int, output: bytes, errors: bytes) -> None:
        super().__init__(message)
        self.status = status
        self.output = output
        self.errors = errors


class ConnectionLost(HostError):
    """The connection broke while a command was running: it may have run to its end, or not at all."""


class SchedulerError(SheepdogError):
    """The batch system refused an array job, or cannot be asked about it."""


class SchedulerNotFound(SchedulerError, FileNotFoundError):
    """There is no batch system of this kind: its commands are not on the head node."""


class UnknownResource(SchedulerError, ConfigError):
    """The site has no resource of this name."""


class SchedulerBusy(SchedulerError):
    """The batch system cannot take an array job now: it is down, or a limit has been reached."""


class TooManyWorkers(SchedulerError):
    """The batch system takes no array job of so many elements. limit is how many it takes."""

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


def words_of(error: BaseException) -> str:
    """Return what an exception says; some say nothing but their names."""
    return str(error) or type(error).__name__
