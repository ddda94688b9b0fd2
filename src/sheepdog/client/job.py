"""A job as it is where it runs: what it calls, its name, and what a subclass has given it."""

import importlib
import os
import sys
import types

from .function import CONTROLLER, asks_for_controller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

THERE = "_sheepdog_worker.job"  # this module, on a worker
OURS = ("sheepdog", "gridengine")


class JobBase(object):
    """Stands for sheepdog.Job on the workers, which have no Sheepdog: subclasses of that are subclasses of this there.

    stands_for is the class that a class becomes at the other end: its module and its name.
    """

    stands_for = ("sheepdog.job", "Job")

    _target = None  # type: Callable[..., Any] | None
    _args = ()  # type: tuple[Any, ...]
    _kwargs = {}  # type: dict[str, Any]
    _name = ""
    _daemon = False

    def __init__(self, *_: "Any", **__: "Any") -> None:
        """Raise RuntimeError: what a job is made of is not here. To load one that has travelled does not call this."""
        raise RuntimeError("a job cannot be made inside a job: call the function, or return what the next job is to do")

    def run(self) -> "Any":
        """Call the target; what it returns is the job's result. A subclass may do something else."""
        return None if self._target is None else self._target(*self._args, **self._kwargs)

    @property
    def name(self) -> str:
        """A name for people; it need not be unique."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError("name is %r, a %s; it must be a text" % (name, type(name).__name__))
        self._name = name

    @property
    def daemon(self) -> bool:
        """What the caller said. It changes nothing: a job neither ends with its program nor keeps it from ending."""
        return self._daemon

    @daemon.setter
    def daemon(self, daemon: bool) -> None:
        self._daemon = bool(daemon)

    @property
    def exitcode(self) -> "int | None":
        """None: it runs."""
        return None

    @property
    def ident(self) -> "int | None":
        """The job's number in its database."""
        return (int(os.environ["SHEEPDOG_REQUEST_ID"]) << 32) + int(os.environ["SHEEPDOG_TASK_INDEX"])

    @property
    def pid(self) -> "int | None":
        """The same as ident."""
        return self.ident

    def is_alive(self) -> bool:
        """Return True: it runs."""
        return True

    def start(self) -> None:
        """Raise RuntimeError: it has been started."""
        raise RuntimeError("a job can be started once")

    def join(self, timeout: "float | None" = None) -> None:  # noqa: ARG002
        """Raise RuntimeError: that would not end."""
        raise RuntimeError("a job cannot wait for itself")


Call = JobBase  # its name in pickles: in those of old databases, and in those that running workers are given


class Run(object):
    """What a task of a job calls: the target, or the job's own run. For a job, sys.exit(0) is no error."""

    stands_for = (THERE, "Run")

    def __init__(self, target: "Callable[..., Any]", name: str) -> None:
        self.__wrapped__ = target
        self.__name__ = name

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        """Return what the target returns; None if it exits with status 0."""
        try:
            return self.__wrapped__(*args, **kwargs)
        except SystemExit as error:
            status = exit_status(error.code)
            if not status:
                return None
            if not isinstance(error.code, int):
                sys.stderr.write("%s\n" % (error.code,))
            raise SystemExit(status).with_traceback(error.__traceback__) from None


def run_any(job: JobBase, controller: object = None) -> "Any":
    """Run a job of any class; give the controller to its run and to its target, as they ask for it."""
    given = {} if controller is None else {CONTROLLER: controller}
    kwargs = job._kwargs
    if given and asks(job._target, job._args, kwargs):
        job._kwargs = dict(kwargs, **given)
    try:
        return job.run(**given) if given and asks(job.run, (), {}) else job.run()
    finally:
        job._kwargs = kwargs


def asks(function: object, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> bool:
    """Tell whether this call of a function leaves its controller without a value."""
    wants = asks_for_controller(function)
    return wants is not None and wants(args, kwargs)


run_any.stands_for = (THERE, "run_any")  # type: ignore[attr-defined]


def exit_status(code: object) -> int:
    """Return the exit status of sys.exit(code), as a process has it."""
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) and -(1 << 31) <= code < 1 << 31 else 1


class Module(object):
    """Pickled, this becomes a module of the other end."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> "tuple[Callable[..., Any], tuple[str]]":
        return importlib.import_module, (self.name,)


class Absent(object):
    """A module of Sheepdog's that a function names: a worker may lack it, and seldom needs it."""

    stands_for = (THERE, "Absent")

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> "Any":
        try:
            return getattr(importlib.import_module(self._module), name)
        except ImportError:
            if name == "Job":
                return JobBase
            if name.startswith("__"):  # somebody only looks what it is
                raise AttributeError(name)
            raise

    def __reduce__(self) -> "tuple[Callable[..., Any], tuple[str]]":
        return importlib.import_module, (self._module,)


def other_end(value: object) -> "tuple[Callable[..., Any], tuple[Any, ...]] | None":
    """Return how to pickle a class, a function or a module of Sheepdog's for the other end; None for other values."""
    if isinstance(value, (type, types.FunctionType)) and "stands_for" in vars(value) and is_ours(value.__module__):
        module, name = vars(value)["stands_for"]
        return getattr, (Module(module), name)
    if isinstance(value, types.ModuleType) and is_ours(value.__name__):
        return Absent, (value.__name__,)
    return None


def is_ours(module: str) -> bool:
    """Tell whether a module is one of Sheepdog's, at either end."""
    return module.partition(".")[0] in OURS + (THERE.partition(".")[0],)
