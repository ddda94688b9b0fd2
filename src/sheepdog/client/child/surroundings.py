"""The surroundings of a task: what a function may change of its process."""

import _signal  # type: ignore[import-not-found]  # signal makes enumerations, which takes longer than the question
import _thread
import os
import signal
import sys
import time

from ..processes import has_processes
from ..wire.limits import LOOK_PAUSE, STRAGGLE
from .descriptors import move_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # noqa: F401 (named in a comment)

# The signals whose handlers a function may leave behind, as plain numbers: getsignal takes longer for others.
WATCHED = tuple(
    int(number)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGALRM,
        signal.SIGCHLD,
        signal.SIGPIPE,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )
)
FORKED = 50e-6  # seconds of a task in which no process can be started


IMPORTING = ("path", "meta_path", "path_hooks")


class Variables(object):
    """Environment variables that change with the tasks.

    setenv of the C library, and so os.putenv, keeps every value that a variable ever had: 100 bytes a task. To its
    putenv one lends the memory, and what is written there later is the variable's value at once.
    """

    def __init__(self) -> None:
        self.lent = {}  # type: dict[bytes, Any]
        try:
            import ctypes

            self.buffer, self.lend = ctypes.create_string_buffer, ctypes.CDLL(None).putenv
        except (ImportError, OSError, AttributeError):
            self.lend = None  # type: ignore[assignment]

    def put(self, name: bytes, value: bytes, anew: bool = True) -> None:
        """Set a variable to a value of 20 bytes at most. anew: somebody else may have set it since."""
        if self.lend is None:
            os.putenv(name, value)
            return
        if name not in self.lent:
            self.lent[name] = self.buffer(len(name) + 22)
        self.lent[name].value = name + b"=" + value
        if anew:
            self.lend(self.lent[name])


class Importing(object):
    """Where modules come from: lists of sys, as they should be."""

    def __init__(self) -> None:
        self.lists = [(name, getattr(sys, name), list(getattr(sys, name))) for name in IMPORTING]

    def changed(self) -> bool:
        """Tell whether they are others, or other things are in them."""
        (_, path, entries), (_, finders, present), (_, hooks, known) = self.lists
        try:
            same = sys.path is path and sys.meta_path is finders and sys.path_hooks is hooks
        except AttributeError:
            return True
        return not same or path != entries or finders != present or hooks != known

    def put_back(self, imported: bool) -> None:
        """Put back what was there. imported: modules came, and what they have added is theirs, and stays."""
        for name, there, content in self.lists:
            found = getattr(sys, name, None)
            if found is there and found == content:
                continue
            if imported and isinstance(found, list):
                if all(entry in found for entry in content):
                    content[:] = found
                content += [entry for entry in found if entry not in content]
            there[:] = content
            setattr(sys, name, there)


class Surroundings(object):
    """What a function may change of its process, as it was when the function had been loaded."""

    def __init__(self, umask: int) -> None:
        self.umask = umask
        try:
            self.family = move_up(os.open("/proc/self/task/%d/children" % os.getpid(), os.O_RDONLY))
        except OSError:
            self.family = -1
        self.often = Variables()
        self.mine = {}  # type: dict[bytes, bytes]  # the values of these
        self.looked = 0.0  # when we looked for processes
        self.environ = os.environ
        self.data = vars(os.environ)["_data"]  # comparing the mapping itself takes 50 times as long
        self.note()

    def note(self) -> None:
        """Take what is now for what it should be."""
        self.directory = working_directory()
        self.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self.handlers = tuple(map(_signal.getsignal, WATCHED))
        self.threads = _thread._count()
        self.processes = has_processes()
        self.variables = dict(self.data)
        self.table = sys.modules
        self.known = dict(sys.modules)
        self.importing = Importing()
        self.recursion = sys.getrecursionlimit()

    def set(self, name: bytes, number: int) -> None:
        """Set an environment variable of the next task. As os.environ does it, in a fraction of the time."""
        value, before = b"%d" % number, self.data.get(name)
        # What a function sets, if only to what it was, is another object, and elsewhere in memory; but there is only
        # one object of each single byte.
        same = before is self.mine.get(name) and len(before or b"") > 1
        self.often.put(name, value, anew=not same)
        self.data[name] = self.variables[name] = self.mine[name] = value

    def change(self, seconds: float, now: float) -> str:
        """Put back what can be put back; return what else the function changed, or an empty text.

        It took so many seconds, and has ended now. Everything that the next task would see is looked at after each.
        """
        os.umask(self.umask)
        _signal.alarm(0)
        if getattr(os, "environ", None) is not self.environ:
            os.environ = self.environ  # noqa: B003 (it is the one of before)
        imported = self._put_back_modules()
        if self.data != self.variables:
            self._put_back_variables(imported)
        if self.importing.changed():
            self.importing.put_back(imported)
        if sys.getrecursionlimit() != self.recursion:
            sys.setrecursionlimit(self.recursion)
        if working_directory() != self.directory:
            try:
                os.chdir(self.directory or "/")
            except OSError:
                return "its working directory is gone"
        if os.getpriority(os.PRIO_PROCESS, 0) != self.niceness:
            return "its niceness is another"
        if tuple(map(_signal.getsignal, WATCHED)) != self.handlers:
            return "it handles signals"
        if _thread._count() > self.threads:
            return self._stragglers()
        if seconds > FORKED or now - self.looked > LOOK_PAUSE:
            self.looked = now
            if not self.processes and has_processes(self.family):
                return self._stragglers()
        return ""

    def _put_back_modules(self) -> bool:
        """Put back the modules that are gone; return whether others came."""
        if getattr(sys, "modules", None) is not self.table:
            sys.modules = self.table
        if len(self.table) == len(self.known):
            return False
        before = len(self.known)
        self.known.update(self.table)
        if len(self.table) < len(self.known):
            self.table.update(self.known)
        return len(self.known) > before

    def _put_back_variables(self, imported: bool) -> None:
        """Undo what was done to the environment. What modules set when they are imported is theirs, and stays."""
        found = dict(self.data)
        for key in set(found) | set(self.variables):
            if key not in self.variables and imported:
                self.variables[key] = found[key]
            elif key not in self.variables:
                del self.environ[self.environ.decodekey(key)]
            elif found.get(key) != self.variables[key]:
                self.environ[self.environ.decodekey(key)] = self.environ.decodevalue(self.variables[key])

    def _stragglers(self) -> str:
        """Return what goes on though the function has returned; not what was ending anyway."""
        end = time.monotonic() + STRAGGLE
        while True:
            threads = _thread._count() > self.threads
            if not threads and (self.processes or not has_processes()):
                return ""
            if time.monotonic() >= end:
                return "its threads go on" if threads else "processes that it started go on"
            time.sleep(0.001)


def working_directory() -> "bytes | None":
    """Return where this process is; None if that is gone."""
    try:
        return os.getcwdb()
    except OSError:
        return None
