"""The worker: fetches tasks from the server, runs them in a child process, reports their outcomes.

This one file travels to the cluster and runs there on a bare Python, 3.6 or newer. It imports the standard library
and nothing else; the host imports from it what both ends must agree on (the frames, how a value is dumped).

    server  <-- exchange(outcomes, want) -- PARENT  -- tasks, tokens -->  CHILD
            --- tasks ------------------->          <-- outcomes --------  runs the function

The parent talks: heartbeats, outcomes, retries. The child runs the function, and may die of it: the parent reports
that as the task's outcome and forks another. A task is the child's once it has read a token for it from a pipe; a
token that the parent reads back first is a task recalled. So neither can believe that the other has it.

What is decided here, and where:

    Target            how a task ended, if its process is alive to say so
    Surroundings      whether the function left its process fit for another task; if not, a fresh child takes over
    Child.autopsy     how a task ended whose process cannot say it: it died, or was ended for its time
    Worker.step       what to do next: give tasks to the child, listen to it, or call the server
    Worker.leave      the same for a worker that has been warned, or whose walltime nears its end: deliver, and end
    Line.call         what a reply or a failure means: go on, try again later, or end

Run as: python client.py DIRECTORY ELEMENT. The directory holds secret.json (see job_file.py) and cloudpickle.zip;
the element is the name of this copy within its array job.
"""

import _signal  # type: ignore[import-not-found]  # signal makes enumerations, which takes longer than the question
import _thread
import collections
import fcntl
import functools
import importlib.util
import io
import json
import os
import pickle
import random
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
import types
import uuid

TYPE_CHECKING = False
if TYPE_CHECKING:  # the worker's start must be quick
    from collections.abc import Callable, Iterator, Sequence
    from http.client import HTTPResponse, HTTPSConnection  # noqa: F401 (named in a comment)
    from typing import Any, BinaryIO

    Blob = Any  # bytes, or a binary file if it is large
    Task = tuple[int, int, Blob]  # index, attempt, arguments

PROTOCOL = 1  # of the exchange between worker and server
PICKLE_PROTOCOL = 4  # 5 cannot be read by 3.6 and 3.7
CHUNK = 1 << 20
IN_MEMORY = 8 << 20  # a larger blob waits in a temporary file
MAX_HEADER = 8 << 20
MAX_TEXT = 64 << 10  # of an error
MAX_OUTPUT = 16 << 10  # what is kept of a task's output: its end
MAX_CALL = 32 << 20  # outcomes sent in one call, unless a single one is larger
MAX_BATCH = 1000
BATCH_SECONDS = 0.5  # the work that a batch should hold
STUCK = 1.0  # a batch that takes longer than this gives its unstarted tasks back
NAP = 0.02  # at most, between two looks at a child that has much to say
AHEAD = 50  # tasks in a batch from which on the next is fetched while it runs
SPARE_PATIENCE = 600.0  # how long a worker that has nothing to do any more looks for the server
SUSPENDED = 3.0  # a longer wait was no wait
LOOK = 0.1  # between two looks at what a task prints
SOON = 0.01  # ... if it prints much
CONNECT = 20.0  # seconds for a connection; less than schedulers leave between a warning and the kill
REPLY = 60.0  # ... and for a reply
LOADING = 300.0  # what loading the function may take beside a task's timeout
GRACE = 5.0  # between SIGTERM and SIGKILL
STRAGGLE = 0.05  # how long threads and processes that are about to end are waited for
NOTICE = 30.0  # between a warning and the kill, if nobody says
LEAVING_BEAT = 5.0  # between two calls of a worker that is leaving
RECENT = 50  # tasks from whose times the next ones are judged
MAX_RETRY_AFTER = 120
INTERRUPTION = "the worker was ended while the task ran: "

# The kinds of outcome, on the wire.
RESULT, RAISED, DIED, MEMORY, TIMEOUT, INTERRUPTED = range(6)
# RESULT       the function returned, and this is what
# RAISED       the function raised; or it, its arguments or its result cannot travel
# DIED         its process ended under it: by a signal, or by its own os._exit
# MEMORY       MemoryError, or the kernel ended its process for want of memory
# TIMEOUT      it took longer than its timeout, and was ended
# INTERRUPTED  the worker had to end while it ran; the task is not to blame

OUTCOME = struct.Struct("!QIBdQI")  # index, attempt, kind, seconds, bytes of value, bytes of output
LOADED, PARTING = range(2)  # with index 0 the child speaks of itself: the function is loaded; why it ends now
F_SETSIG, F_GETSIG = getattr(fcntl, "F_SETSIG", -1), getattr(fcntl, "F_GETSIG", -1)  # Linux only
MARK = 61  # the signal that an open file of ours would send, if it were asked to send any
NO_PIPE = 77  # the exit status of a child that cannot report any more
TASK = struct.Struct("!QIQ")  # index, attempt, bytes of arguments

# The signals by which schedulers warn, and what they say. Grid Engine sends SIGUSR1 before it suspends and at a soft
# limit of time, SIGUSR2 before it kills, SIGXCPU every second at a soft limit of memory; Slurm sends SIGTERM.
WARNINGS = {
    signal.SIGUSR1: "SIGUSR1 from the scheduler (to be suspended, or its time is nearly over)",
    signal.SIGUSR2: "SIGUSR2 from the scheduler (deleted, or its time was over)",
    signal.SIGTERM: "SIGTERM (deleted, or its time was over)",
    signal.SIGXCPU: "SIGXCPU (a soft limit of processor time or memory was passed)",
}  # type: dict[int, str]
# The signals whose handlers a function may leave behind.
WATCHED = [
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGALRM,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
]

Outcome = collections.namedtuple("Outcome", "task attempt kind seconds value output")
Leaving = collections.namedtuple("Leaving", "reason interrupt until")  # why; when a task is ended; when the worker is


# --- frames: a length, a JSON header, raw blobs


def pack(header: "dict[str, Any]", lengths: "list[int]") -> bytes:
    """Return the first bytes of a frame; the blobs, of these lengths, follow it."""
    text = json.dumps(dict(header, blobs=lengths), separators=(",", ":")).encode()
    return struct.pack("!I", len(text)) + text


def unpack(stream: "BinaryIO") -> "dict[str, Any]":
    """Read a frame's header from a binary stream; ValueError if it is none. header["blobs"] holds the lengths."""
    start = stream.read(4)
    if len(start) != 4:
        raise ValueError("the frame is cut off")
    (length,) = struct.unpack("!I", start)
    if length > MAX_HEADER:
        raise ValueError("the header has %d bytes; %d are allowed" % (length, MAX_HEADER))
    text = stream.read(length)
    if len(text) != length:
        raise ValueError("the frame is cut off")
    try:
        header = json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("the header is nested too deeply")
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    lengths = header.get("blobs")
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise ValueError("blobs must be a list of lengths")
    return header


def read_blob(stream: "BinaryIO", length: int) -> "Blob":
    """Read a blob: bytes, or a temporary file if it is large."""
    if length <= IN_MEMORY:
        blob = stream.read(length)
        if len(blob) != length:
            raise ValueError("the frame is cut off")
        return blob
    spool = tempfile.TemporaryFile()
    while length:
        chunk = stream.read(min(CHUNK, length))
        if not chunk:
            spool.close()
            raise ValueError("the frame is cut off")
        spool.write(chunk)
        length -= len(chunk)
    return spool


def size_of(blob: "Blob") -> int:
    """Return the length of a blob, be it bytes or a file."""
    return len(blob) if isinstance(blob, bytes) else blob.seek(0, io.SEEK_END)


def chunks_of(blob: "Blob") -> "Iterator[bytes]":
    """Yield a blob in pieces."""
    if isinstance(blob, bytes):
        yield blob
        return
    blob.seek(0)
    while True:
        chunk = blob.read(CHUNK)
        if not chunk:
            return
        yield chunk


def runs(tasks: "list[tuple[int, int]]") -> "list[list[int]]":
    """Return (index, attempt) pairs as runs of neighbours: [first index, last index, attempt]."""
    found = []  # type: list[list[int]]
    for index, attempt in tasks:
        if found and found[-1][1] == index - 1 and found[-1][2] == attempt:
            found[-1][1] = index
        else:
            found.append([index, index, attempt])
    return found


# --- values


def dump(value: object) -> bytes:
    """Pickle a value; by value what the other side could not import.

    A pickle without the opcode STACK_GLOBAL names no class or function: plain data, which needs no cloudpickle.
    """
    try:
        data = pickle.dumps(value, PICKLE_PROTOCOL)
        if b"\x93" not in data:
            return data
    except Exception:  # cloudpickle may know better, and words the error if not
        pass
    buffer = io.BytesIO()
    make_pickler(buffer).dump(value)
    return buffer.getvalue()


def make_pickler(buffer: "BinaryIO") -> "Any":
    """Return cloudpickle's pickler, taught to take cached functions and properties by value where they must travel."""
    import cloudpickle

    cached_function = type(functools.lru_cache()(len))
    cached_property = getattr(functools, "cached_property", None)  # 3.8

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: "Any") -> "Any":
            if type(value) is cached_function and travels(value):
                parameters = value.cache_parameters()
                make = (value.__wrapped__, parameters["maxsize"], parameters["typed"], functools._CacheInfo)
                return cached_function, make, vars(value)
            if type(value) is cached_property and hasattr(value, "lock"):  # until 3.11
                return cached_property, (value.func,), {"attrname": value.attrname}
            return super().reducer_override(value)

    def travels(function: "Any") -> bool:
        module = sys.modules.get(function.__module__)
        own = cloudpickle.cloudpickle.list_registry_pickle_by_value()
        return module is None or function.__module__ == "__main__" or function.__module__ in own

    return Pickler(buffer, PICKLE_PROTOCOL)


def describe_python() -> "dict[str, str]":
    """Return what decides whether bytecode can be exchanged."""
    return {
        "implementation": sys.implementation.name,
        "version": "%d.%d.%d" % sys.version_info[:3],
        "magic": importlib.util.MAGIC_NUMBER.hex(),
        "executable": sys.executable,
    }


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    """Cut the middle out of a long text."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return "%s\n... %d characters left out ...\n%s" % (text[:half], len(text) - 2 * half, text[-half:])


def explain(error: BaseException, skip: int = 0) -> bytes:
    """Return an exception as text: a one-line summary, then the traceback without its first frames."""
    name = type(error).__name__
    try:
        message = " ".join(str(error).split())
        summary = "%s: %s" % (name, message) if message else name
    except BaseException:
        summary = name + " (its message cannot be shown)"
    trace = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next if trace is not None else None
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        text = "".join(traceback.format_tb(trace))
    if len(summary) > 500:
        summary = summary[:500] + " ..."
    return (summary + "\n" + shorten(text)).encode("utf-8", "backslashreplace")


# --- the child


def inject(function: object, namespace: "dict[str, Any]") -> None:
    """Make the names of a namespace global to a function and to the functions in it.

    Functions that were pickled by value have globals of their own. A module that was really imported stays as it is,
    unless the function that is called in the end lives in it.
    """
    if not namespace:
        return
    called = list(functions_behind(function))
    targets = called[-1:]
    for candidate in called + [inner for value in namespace.values() for inner in functions_behind(value)]:
        module = sys.modules.get(candidate.__module__ or "")
        if module is None or vars(module) is not candidate.__globals__:
            targets.append(candidate)
    for target in targets:
        target.__globals__.update(namespace)


def functions_behind(value: "Any") -> "Iterator[types.FunctionType]":
    """Yield the functions that calling a value runs, one behind the other: partials, methods, decorators."""
    for _ in range(100):
        if isinstance(value, types.FunctionType):
            yield value
        if isinstance(value, functools.partial):
            value = value.func
        elif isinstance(value, types.MethodType):
            value = value.__func__
        elif hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        elif isinstance(value, types.FunctionType):
            return
        elif isinstance(value, type):
            value = vars(value).get("__init__")
        elif isinstance(getattr(type(value), "__call__", None), types.FunctionType):
            value = type(value).__call__
        else:
            return


def load_function(function: bytes, namespace: bytes) -> "Callable[..., Any]":
    """Return the callable from its two pickles, which share one memo."""
    unpickler = pickle.Unpickler(io.BytesIO(function + namespace))
    target = unpickler.load()  # type: Callable[..., Any]
    inject(target, unpickler.load() if namespace else {})
    return target


def write_all(fd: int, data: "bytes | bytearray") -> None:
    """Write all of the data to a pipe."""
    written = os.write(fd, data)
    if written == len(data):
        return
    view = memoryview(data)[written:]
    while view:
        view = view[os.write(fd, view) :]


def prctl(option: int, value: int) -> None:
    """Tell the kernel something about this process, on Linux."""
    if sys.platform.startswith("linux"):
        try:
            import ctypes

            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            pass


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends. Elsewhere than on Linux, a closed pipe does it."""
    prctl(1, int(signal.SIGKILL))
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none escapes. Linux only."""
    prctl(36, 1)


def limit_memory(limit: int) -> None:
    """Limit the address space of this process, in bytes."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def address_limit() -> "list[int]":
    """Return the limit of this process's address space, if there is one."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if limit == resource.RLIM_INFINITY else [limit]


def peak_memory() -> int:
    """Return the most memory that this process has had: addresses where they are known, as they are limited."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmPeak:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    import resource

    return resident(resource.getrusage(resource.RUSAGE_SELF))


def resident(usage: "Any") -> int:
    """Return the peak resident memory of a resource usage, in bytes."""
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def in_words(size: int) -> str:
    """Return a size of memory for people; 1 GB is what schedulers call 1G."""
    return "%.1f GB" % (size / 2.0**30) if size >= 1 << 30 else "%d MB" % (size >> 20)


def out_of_memory(peak: int, limits: "list[int]") -> str:
    """Return the sentence for a task that ran out of memory."""
    text = "out of memory: its process had %s at most" % in_words(peak)
    return text + ", the limit is %s" % in_words(min(limits)) if limits else text


def identity(fd: int) -> "tuple[int, int]":
    """Return what a descriptor refers to; OSError if nothing."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def mark(fd: int) -> bool:
    """Mark an open file so that it can be told from others, in a third of the time of fstat; tell whether it can."""
    try:
        fcntl.fcntl(fd, F_SETSIG, MARK)
        return bool(fcntl.fcntl(fd, F_GETSIG) == MARK)
    except OSError:
        return False


def move_up(fd: int) -> int:
    """Give a descriptor a high number, where a function that closes or replaces some does not meet it by chance."""
    import resource

    high = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) - 16
    if high <= fd:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high)
    os.close(fd)
    return moved


class Capture(object):
    """What the task prints: both of its streams, into one file that the parent can read when the child is dead."""

    def __init__(self) -> None:
        try:
            self.file = tempfile.TemporaryFile(buffering=0)
        except OSError:  # a full or missing temporary directory is no reason not to compute
            self.file = open(os.devnull, "wb+", buffering=0)
        self.fd = self.file.fileno()
        self.identity = identity(self.fd)
        self.size = 0  # when the parent looked last
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_APPEND)  # it is cut down while others write

    def redirect(self) -> None:
        """Send the streams of this process into the file."""
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)
        self.streams = [open(fd, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False) for fd in (1, 2)]
        sys.stdout, sys.stderr = self.streams
        vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)

    def take(self) -> bytes:
        """Return the end of what was printed, and empty the file; undo what the function did to its streams."""
        out, err = self.streams
        same = sys.stdout is out and sys.stderr is err
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:
            same = False
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)
        if not same or out.closed or err.closed:
            self.redirect()
        return self.end()

    def trim(self) -> bool:
        """Forget all but the end of what is printed, if it is much: the node's disk is not ours to fill.

        Return whether much has come since the last time.
        """
        size = os.fstat(self.fd).st_size
        grown = size - self.size
        self.size = size
        if size > CHUNK:
            tail = os.pread(self.fd, MAX_OUTPUT, size - MAX_OUTPUT)
            os.ftruncate(self.fd, 0)
            os.write(self.fd, b"... left out ...\n" + tail)
            self.size = 0
        return grown > MAX_OUTPUT

    def end(self) -> bytes:
        """Return the end of the file, and empty it."""
        size = os.lseek(self.fd, 0, os.SEEK_END)
        if not size:
            return b""
        output = os.pread(self.fd, MAX_OUTPUT, max(0, size - MAX_OUTPUT))
        os.ftruncate(self.fd, 0)
        return output if size <= MAX_OUTPUT else b"... %d bytes left out ...\n" % (size - MAX_OUTPUT) + output


def working_directory() -> "str | None":
    """Return where this process is; None if that is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


def has_processes(family: int = -1) -> bool:
    """Tell whether this process has children that live; bury those that have ended.

    family is a descriptor of Linux's list of them: to read it takes a third of the time of an exception.
    """
    if family >= 0:
        try:
            if not os.pread(family, 1, 0):
                return False
        except OSError:
            pass
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


class Surroundings(object):
    """What a function may change of its process, as it was when the function had been loaded."""

    def __init__(self, umask: int) -> None:
        self.umask = umask
        try:
            self.family = move_up(os.open("/proc/self/task/%d/children" % os.getpid(), os.O_RDONLY))
        except OSError:
            self.family = -1
        self.environ = os.environ
        self.data = vars(os.environ)["_data"]  # comparing the mapping itself takes 50 times as long
        self.note()

    def note(self) -> None:
        """Take what is now for what it should be."""
        self.directory = working_directory()
        self.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self.handlers = [_signal.getsignal(number) for number in WATCHED]
        self.threads = _thread._count()
        self.processes = has_processes()
        self.variables = dict(self.data)
        self.modules = len(sys.modules)

    def set(self, name: bytes, number: int) -> None:
        """Set an environment variable of the next task. As os.environ does it, in half the time."""
        value = b"%d" % number
        os.putenv(name, value)
        self.data[name] = self.variables[name] = value

    def change(self) -> str:
        """Put back what can be put back; return what else the function changed, or an empty text."""
        os.umask(self.umask)
        _signal.alarm(0)
        if self.data != self.variables:
            self._put_back_variables()
        self.modules = len(sys.modules)
        if working_directory() != self.directory:
            try:
                os.chdir(self.directory or "/")
            except OSError:
                return "its working directory is gone"
        if os.getpriority(os.PRIO_PROCESS, 0) != self.niceness:
            return "its niceness is another"
        if [_signal.getsignal(number) for number in WATCHED] != self.handlers:
            return "it handles signals"
        if _thread._count() > self.threads or (not self.processes and has_processes(self.family)):
            return self._stragglers()
        return ""

    def _put_back_variables(self) -> None:
        """Undo what was done to the environment. What modules set when they are imported is theirs, and stays."""
        found, imported = dict(self.data), len(sys.modules) != self.modules
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


class Target(object):
    """The function that the tasks call. Loaded at the first task, so that a failure is that task's outcome."""

    def __init__(self, function: bytes, namespace: bytes, loaded: "Callable[[], None]" = lambda: None) -> None:
        self.blobs = [function, namespace]
        self.function = None  # type: Callable[..., Any] | None
        self.loaded = loaded
        self.clock = 0.0  # when the task began, the loading of the function left out

    def __call__(self, arguments: bytes) -> "tuple[int, bytes]":
        """Return the kind and the value of the outcome."""
        self.clock = time.perf_counter()
        try:
            if self.function is None:
                try:
                    self.function = load_function(*self.blobs)
                except BaseException as error:
                    return blame(error, 2, "the function cannot be loaded here: ")
                self.blobs = []
                self.loaded()
                self.clock = time.perf_counter()
            try:
                args, kwargs = pickle.loads(arguments)
            except BaseException as error:
                return blame(error, 1, "the arguments cannot be loaded here: ")
            result = self.function(*(args or ()), **kwargs)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too are the task's outcome
            return blame(error, 1)
        try:
            return RESULT, dump(result)
        except BaseException as error:
            return blame(error, 1, "the result, a %s, cannot be serialised: " % type(result).__name__)


def blame(error: BaseException, skip: int, what: str = "") -> "tuple[int, bytes]":
    """Return the kind and the text of an outcome that an exception was the end of."""
    if not isinstance(error, MemoryError):
        return RAISED, what.encode() + explain(error, skip)
    traceback.clear_frames(error.__traceback__)  # so that there is memory for the words
    return MEMORY, (out_of_memory(peak_memory(), address_limit()) + "; " + what).encode() + explain(error, skip)


def settle_in(parent: int, secret: "dict[str, Any]") -> None:
    """Make a fork of the worker a process for functions."""
    os.setsid()
    die_with_parent(parent)
    adopt_orphans()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if secret.get("memory_limit"):
        limit_memory(secret["memory_limit"])
    sys.modules["__main__"] = types.ModuleType("__main__")  # the user's names must not meet this file's
    sys.argv = [""]
    os.umask(secret.get("umask", 0o022))
    sys.path[0:1] = [os.path.join(secret["directory"], "cloudpickle.zip")]
    os.environ["SHEEPDOG_REQUEST_ID"] = str(secret["request"])


def leave_traces() -> None:
    """Let a crash, or the SIGTERM of a timeout, print where the function was, even if C code holds Python's lock."""
    import faulthandler

    faulthandler.enable(2)
    faulthandler.register(signal.SIGTERM, 2, chain=True)

    def forget() -> None:
        if _signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # the function has set none of its own
            faulthandler.unregister(signal.SIGTERM)

    if hasattr(os, "register_at_fork"):  # 3.7: multiprocessing ends its processes with SIGTERM, every time
        os.register_at_fork(after_in_child=forget)  # novm


class Report(object):
    """What the child says to its parent, and what the function may have done to the descriptors for it."""

    def __init__(self, pipe: int, capture: Capture, parent: int, spare: "tuple[int, int]") -> None:
        self.pipe = move_up(pipe)
        self.capture = capture
        capture.fd = move_up(capture.fd)
        self.parent = parent
        self.spare = spare  # the parent's numbers for the pipe and the captured output
        self.identities = identity(self.pipe), capture.identity
        self.marked = mark(self.pipe) and mark(capture.fd)

    def is_whole(self) -> bool:
        """Tell whether the function left the worker's descriptors alone. If not, they might be its own files by now."""
        try:
            if self.marked:
                return bool(fcntl.fcntl(self.pipe, F_GETSIG) == MARK == fcntl.fcntl(self.capture.fd, F_GETSIG))
            return (identity(self.pipe), identity(self.capture.fd)) == self.identities
        except OSError:
            return False

    def open_again(self) -> None:
        """Get the pipe and the file of the output from the parent."""
        os.closerange(3, 1024)  # there may be no number left
        try:
            self.pipe = os.open("/proc/%d/fd/%d" % (self.parent, self.spare[0]), os.O_WRONLY)
            self.capture.fd = os.open("/proc/%d/fd/%d" % (self.parent, self.spare[1]), os.O_RDWR | os.O_APPEND)
            if (identity(self.pipe), identity(self.capture.fd)) == self.identities:
                return
        except OSError:
            pass
        os._exit(NO_PIPE)

    def send(self, head: bytes, value: bytes = b"", output: bytes = b"") -> None:
        """Write a message to the parent."""
        if len(value) < CHUNK:
            write_all(self.pipe, head + value + output)
        else:
            for part in (head, value, output):
                write_all(self.pipe, part)

    def part(self, why: str) -> None:
        """End this process as the parent expects it: nothing is wrong, but it takes no more tasks."""
        text = why.encode()
        self.send(OUTCOME.pack(0, 0, PARTING, 0.0, len(text), 0), text)
        os._exit(0)


def run_child(report: Report, pipes: "tuple[int, int]", secret: "dict[str, Any]", blobs: "list[bytes]") -> None:
    """Run tasks until the pipe of tasks is closed, or the process is not fit for another."""
    tasks, tokens = map(move_up, pipes)
    report.capture.redirect()
    leave_traces()
    surroundings = Surroundings(secret.get("umask", 0o022))

    def loaded() -> None:
        surroundings.note()
        report.send(OUTCOME.pack(0, 0, LOADED, 0.0, 0, 0))

    target = Target(blobs[0], blobs[1], loaded)
    last_attempt = None
    stream = open(tasks, "rb", CHUNK)
    number, credit = 0, False
    me = os.getpid()
    most = secret.get("tasks_per_child") or 0
    count = 0
    while True:
        start = stream.read(4)
        if len(start) < 4:
            os._exit(0)
        batch = []  # read as a whole: the parent must not wait for a task to end
        for _ in range(struct.unpack("!I", start)[0]):
            index, attempt, length = TASK.unpack(stream.read(TASK.size))
            batch.append((index, attempt, stream.read(length)))
        batch.reverse()
        number = (number + 1) % 256
        while batch:
            index, attempt, arguments = batch.pop()
            if not credit:
                try:
                    token = os.read(tokens, 1)[0]
                except BlockingIOError:  # this task was recalled, and with it those behind it
                    break
                if token != number:  # so it was, and this is a token of the next batch already
                    credit = True
                    break
            credit = False
            surroundings.set(b"SHEEPDOG_TASK_INDEX", index)
            if attempt != last_attempt:
                surroundings.set(b"SHEEPDOG_ATTEMPT", attempt)
                last_attempt = attempt
            kind, value = target(arguments)
            if os.getpid() != me:  # the function forked, and this is its child
                os._exit(0)
            seconds = time.perf_counter() - target.clock
            if len(value) > secret["max_value"]:
                text = "the result has %d bytes; at most %d can be stored: write it to a file and return its name"
                kind, value = RAISED, (text % (len(value), secret["max_value"])).encode()
            change = surroundings.change()
            whole = report.is_whole()
            if not whole:
                report.open_again()
            output = report.capture.take()
            report.send(OUTCOME.pack(index, attempt, kind, seconds, len(value), len(output)), value, output)
            count += 1
            if change or not whole or count == most:
                report.part(change if whole else "it closed the worker's files")
            del value, arguments


# --- the parent


class Signals(object):
    """What schedulers say to this process: the first warning is kept, and whoever waits wakes up."""

    def __init__(self) -> None:
        self.warning = 0
        self.warned = 0.0  # when
        self.interrupt = lambda: None  # type: Callable[[], None]
        self.woken, self.wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self.wake, False)

    def install(self) -> None:
        """Handle the signals of this process."""
        signal.set_wakeup_fd(self.wake)
        for number in WARNINGS:
            signal.signal(number, self.note)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it only wakes

    def note(self, number: int, _: object) -> None:
        """Note a warning. They come in numbers: twice, every second, with others."""
        if not self.warning:
            self.warning, self.warned = number, time.monotonic()
            self.interrupt()

    def wait(self, fd: int, seconds: float) -> bool:
        """Wait until there is something to read, a signal comes, or the time is over. Tell whether it is the first."""
        fds = [self.woken] if fd < 0 else [self.woken, fd]
        ready = select.select(fds, [], [], max(0.0, seconds))[0]
        if self.woken in ready:
            os.read(self.woken, 4096)
        return fd in ready

    def sleep(self, seconds: float) -> None:
        """Wait for a signal, so long."""
        self.wait(-1, seconds)


def be_a_child() -> None:
    """Give up the worker's signal handlers. What schedulers send to a whole group is the parent's to heed."""
    signal.set_wakeup_fd(-1)
    for number in WARNINGS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def memory_groups() -> "list[str]":
    """Return the directories of this process's control groups that count memory: version 2, version 1."""
    found = []
    try:
        with open("/proc/self/cgroup") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if controllers in ("", "memory"):
                    found.append("/sys/fs/cgroup/" + (controllers + path).strip("/"))
    except (OSError, ValueError):
        pass
    return found


def kernel_says(path: str, key: str) -> "list[int]":
    """Return the number behind a key in a file of the kernel's, if both are there."""
    try:
        with open(path) as file:
            return [int(line.split()[1]) for line in file if line.split()[0] == key]
    except (OSError, ValueError, IndexError):
        return []


def memory_kills() -> "list[int]":
    """Return how often the kernel has killed for want of memory: in our control groups, or else on this machine."""
    places = [group + name for group in memory_groups() for name in ("/memory.events", "/memory.oom_control")]
    found = [number for path in places for number in kernel_says(path, "oom_kill")]
    return found or kernel_says("/proc/vmstat", "oom_kill")


def group_limits() -> "list[int]":
    """Return the limits of memory of our control groups."""
    found = []
    for group in memory_groups():
        for name in ("/memory.max", "/memory.limit_in_bytes"):
            try:
                with open(group + name) as file:
                    found.append(int(file.read()))
            except (OSError, ValueError):  # "max": none
                pass
    return [limit for limit in found if limit < 1 << 60]  # version 1 writes a number of 19 digits for none


def end_orphans() -> None:
    """End all children of this process: what the function's process left behind when it ended."""
    end = time.monotonic() + 2.0
    while has_processes() and os.path.isdir("/proc/self") and time.monotonic() < end:
        for name in os.listdir("/proc"):
            try:
                with open("/proc/%d/stat" % int(name), "rb") as file:
                    if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                        os.kill(int(name), signal.SIGKILL)
            except (OSError, ValueError):
                pass
        time.sleep(0.002)


class Child(object):
    """The process that runs the function, seen from the parent."""

    def __init__(
        self, secret: "dict[str, Any]", function: "Blob", namespace: "Blob", signals: "Signals | None" = None
    ) -> None:
        # index -> attempt, arguments; in the order of running
        self.running = collections.OrderedDict()  # type: collections.OrderedDict[int, tuple[int, Blob]]
        self.secret = secret
        self.signals = signals
        self.capture = Capture()
        self.started = time.monotonic()  # of the batch
        self.since = self.started  # of the present task: it began then, or later
        self.loaded = False  # has the function been?
        self.parting = None  # type: str | None  # why it ends, if it has said so itself
        self.verdict = None  # type: tuple[int, str] | None  # kind and sentence for a task that is being ended
        self.kill_at = 0.0  # if that does not end it
        self.status = None  # type: int | None
        self.peak = 0  # bytes of memory, once it has ended
        self.buffer = bytearray()
        # an outcome whose value is on its way into a file: that, the bytes that are missing, its head
        self.large = None  # type: tuple[BinaryIO, int, Any] | None
        tasks, self.tasks = os.pipe()
        tokens, self.tokens = os.pipe()
        # The function may close its end of this pipe and go on: so the end of the child is not the end of the pipe.
        self.outcomes, self.spare_outcomes = os.pipe()
        self.number = 0  # of the batch, and the value of its tokens
        self.spare_tokens = os.dup(tokens)
        os.set_blocking(tokens, False)
        self.kills = memory_kills()
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(WARNINGS) + [signal.SIGCHLD])
        self.pid = os.fork()
        if self.pid == 0:
            try:
                be_a_child()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                blobs = [b"".join(chunks_of(blob)) for blob in (function, namespace)]
                outcomes = os.dup(self.spare_outcomes)
                for fd in range(3, 1024):
                    if fd not in (tasks, tokens, outcomes, self.capture.fd):
                        try:
                            os.close(fd)
                        except OSError:
                            pass
                settle_in(parent, secret)
                spare = (self.spare_outcomes, self.capture.fd)
                run_child(Report(outcomes, self.capture, parent, spare), (tasks, tokens), secret, blobs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in (tasks, tokens):
            os.close(fd)
        os.set_blocking(self.outcomes, False)
        os.set_blocking(self.tasks, False)

    def give(self, tasks: "list[Task]") -> None:
        """Hand tasks, (index, attempt, blob), to a child that has none."""
        for index, attempt, blob in tasks:
            self.running[index] = (attempt, blob)
        self.number = (self.number + 1) % 256
        os.write(self.tokens, bytes([self.number]) * len(tasks))
        self.started = self.since = time.monotonic()
        try:
            out = bytearray(struct.pack("!I", len(tasks)))
            for index, attempt, blob in tasks:
                out += TASK.pack(index, attempt, size_of(blob))
                for chunk in chunks_of(blob):
                    out += chunk
                    if len(out) >= CHUNK:
                        self._send(out)
                        out = bytearray()
            self._send(out)
        except BrokenPipeError:
            pass  # it is dead: collect() says so

    def _send(self, data: "bytes | bytearray") -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.tasks, view) :]
            except BlockingIOError:
                if self._has_ended():  # a process that it forked may hold the pipe open
                    raise BrokenPipeError
                select.select([], [self.tasks], [], 1.0)

    def recall(self) -> "list[Task]":
        """Take back the tasks that the child has not started; return them."""
        count = self._take_tokens()
        back = []
        for index in list(self.running)[len(self.running) - count :]:
            attempt, blob = self.running.pop(index)
            back.append((index, attempt, blob))
        return back

    def _take_tokens(self) -> int:
        try:
            return len(os.read(self.spare_tokens, 65536))
        except BlockingIOError:
            return 0

    def collect(self, timeout: float) -> "tuple[list[Outcome], bool]":
        """Wait for the child to say something, a second at most. Return its outcomes, and whether it has ended."""
        timeout = min(1.0, max(0.0, timeout))
        if self.signals is not None:
            ready = self.signals.wait(self.outcomes, timeout)
        else:
            ready = bool(select.select([self.outcomes], [], [], timeout)[0])
        if not ready and not self._has_ended():
            return [], False
        found = []  # type: list[Outcome]
        while True:
            try:
                data = os.read(self.outcomes, CHUNK)
            except BlockingIOError:
                return found, self.status is not None
            self.since = time.monotonic()
            found.extend(self._parse(data))

    def _has_ended(self) -> bool:
        if self.status is None:
            self._wait(os.WNOHANG)
        return self.status is not None

    def _wait(self, options: int) -> None:
        pid, status, usage = os.wait4(self.pid, options)
        if pid:
            self.status = status
            self.peak = resident(usage)

    def _parse(self, data: bytes) -> "Iterator[Outcome]":
        self.buffer += data
        while True:
            if self.large is not None:
                spool, missing, head = self.large
                part = self.buffer[:missing]
                spool.write(part)
                del self.buffer[: len(part)]
                self.large = (spool, missing - len(part), head)
                if missing > len(part) or len(self.buffer) < head[5]:
                    return
                value = spool  # type: Blob
            else:
                if len(self.buffer) < OUTCOME.size:
                    return
                head = OUTCOME.unpack_from(self.buffer)
                if head[4] > IN_MEMORY:
                    del self.buffer[: OUTCOME.size]
                    self.large = (tempfile.TemporaryFile(), head[4], head)
                    continue
                if len(self.buffer) < OUTCOME.size + head[4] + head[5]:
                    return
                value = bytes(self.buffer[OUTCOME.size : OUTCOME.size + head[4]])
                del self.buffer[: OUTCOME.size + head[4]]
            output = bytes(self.buffer[: head[5]])
            del self.buffer[: head[5]]
            self.large = None
            if head[0]:
                self.running.pop(head[0], None)
                yield Outcome(head[0], head[1], head[2], head[3], value, output)
            elif head[2] == LOADED:
                self.loaded = True
            else:
                self.parting = value.decode()

    def overdue(self, timeout: float) -> float:
        """Return when the present task will have taken longer than it may."""
        return self.since + timeout + (0.0 if self.loaded else LOADING)

    def terminate(self, kind: int, text: str, grace: float = GRACE) -> None:
        """Ask the child and what it started to end. Its task has this outcome, unless it returns before."""
        kill_at = time.monotonic() + grace
        if self.verdict is None:
            self.verdict, self.kill_at = (kind, text), kill_at
            self._signal_group(signal.SIGTERM)
        self.kill_at = min(self.kill_at, kill_at)

    def autopsy(self) -> "tuple[str, list[Outcome], Outcome | None, list[Task]]":
        """Return how a child ended, what it had still to say, the task it died of, if any, and the tasks it left."""
        deadline = time.monotonic() + (1.0 if self.parting is not None else 0.0)
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.002)
        status = self.status
        found = self.finish()
        if status is None:
            how = "was ended"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            names = {int(s): s.name for s in signal.Signals}
            how = "was killed by signal %d (%s)" % (number, names.get(number, "?"))
        elif os.WEXITSTATUS(status) == NO_PIPE:
            how = "closed all its files, the worker's too"
        else:
            how = "exited with status %d" % os.WEXITSTATUS(status)
        left = self.recall()
        outcome = None
        if self.running:  # it had a token for this one
            index, (attempt, _) = next(iter(self.running.items()))
            kind, text = self.verdict or self._cause_of_death(how)
            seconds = time.monotonic() - self.since
            outcome = Outcome(index, attempt, kind, seconds, text.encode(), self.capture.end())
        self.running.clear()
        self.close()
        return how, found, outcome, left

    def finish(self) -> "list[Outcome]":
        """End the child; return the outcomes that it had still to tell."""
        self._end()
        return self.collect(0)[0]

    def _cause_of_death(self, how: str) -> "tuple[int, str]":
        kills = memory_kills()
        killed = self.killed_by() == signal.SIGKILL
        if killed and len(kills) == len(self.kills) and any(now > before for now, before in zip(kills, self.kills)):
            limit = self.secret.get("memory_limit")
            return MEMORY, out_of_memory(self.peak, group_limits() + ([limit] if limit else []))
        if self.status is not None and os.WIFEXITED(self.status) and os.WEXITSTATUS(self.status) == NO_PIPE:
            return DIED, "the task's process %s: the outcome was lost" % how
        return DIED, "the task's process %s before the function returned" % how

    def killed_by(self) -> int:
        """Return the number of the signal that ended the child; 0 if none did."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else 0

    def close(self) -> None:
        """Close the pipes and the captured output."""
        for fd in (self.tasks, self.tokens, self.spare_tokens, self.outcomes, self.spare_outcomes):
            os.close(fd)
        self.capture.file.close()

    def kill(self) -> None:
        """End the child and what it started; close everything."""
        self._end()
        self.close()

    def _end(self) -> None:
        """End the child, if it has not ended, and its process group."""
        if not self._has_ended():
            os.kill(self.pid, signal.SIGKILL)
        self._signal_group(signal.SIGKILL)
        if self.status is None:
            self._wait(0)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass


class Refused(Exception):
    """The server will not have this worker, or has not answered for too long: it ends."""


class Over(Exception):
    """There is nothing to do any more: the worker ends, and all is well."""


class Line(object):
    """The connection to the server: one call at a time, kept alive, tried again with growing pauses."""

    def __init__(self, secret: "dict[str, Any]", about: "dict[str, Any]", signals: Signals) -> None:
        self.secret = secret
        self.about = about
        self.signals = signals
        signals.interrupt = self.interrupt
        self.connect_timeout = CONNECT
        self.reply_timeout = REPLY
        self.calls = 0
        self.calling = False
        self.turn = 0
        self.connection = None  # type: HTTPSConnection | None
        self.heartbeat = 20.0
        self.failures = 0
        self.failing_since = 0.0
        self.next_call = 0.0
        import ssl  # not at the top: the host, which imports this file too, has no use for it

        self.context = ssl.create_default_context(cadata=secret["certificate"])
        self.context.check_hostname = False  # the certificate itself is pinned
        if hasattr(ssl, "TLSVersion"):
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2  # novm
        else:  # 3.6
            self.context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1

    def log(self, text: str) -> None:
        """Write a line to the scheduler's output file."""
        try:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), "worker %s: %s" % (self.about["worker"][:8], text), flush=True)
        except OSError:  # a full disk is no reason not to compute
            pass

    def join(self) -> "tuple[dict[str, Any], list[Blob]]":
        """Say what this worker is; return the settings and the function. Keep trying."""
        while True:
            if self.signals.warning:
                raise Over(WARNINGS[self.signals.warning])
            header = {"protocol": PROTOCOL, "python": describe_python()}
            answer = self.call("join", header, (), self.secret["patience"])
            if answer is not None:
                self.heartbeat = answer[0]["heartbeat"]
                self.reply_timeout = min(REPLY, max(5.0, 3 * self.heartbeat))  # or a lost packet may cost the lease
                return answer
            self.signals.sleep(self.next_call - time.monotonic())

    def call(
        self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]", patience: float
    ) -> "tuple[dict[str, Any], list[Blob]] | None":
        """Make a call; return the reply's header and blobs. None if it failed: try again from next_call on.

        Refused if the server says no, or when nothing was heard of it for longer than patience. Over if the request
        has ended.
        """
        from http.client import HTTPException

        retry_after = 0.0
        self.calling = True
        try:
            reply = self._send(verb, self.signed(header), blobs)
            if reply.status != 200:
                text = "%d: %s" % (reply.status, reply.read(4096).decode("utf-8", "replace"))
                if reply.status == 410:
                    raise Over("the server says " + text)
                if reply.status < 500 and reply.status != 429:
                    raise Refused("the server says " + text)
                retry_after = seconds_of(reply.getheader("Retry-After"))
                raise OSError("the server says " + text)
            answer = unpack(reply)
            found = [read_blob(reply, length) for length in answer["blobs"]]
            reply.read()  # to its end, or the connection cannot be used again
        except (OSError, HTTPException, ValueError) as error:
            self.hang_up()
            self._wait_longer(error, patience, retry_after)
            return None
        finally:
            self.calling = False
        if self.failures:
            self.log("the server answers again")
        self.failures = 0
        return answer, found

    def signed(self, header: "dict[str, Any]") -> "dict[str, Any]":
        """Return the header of the next call: with its number, and the name of this worker."""
        self.calls += 1
        return dict(header, call=self.calls, **self.about)

    def _send(self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]") -> "HTTPResponse":
        from http.client import HTTPSConnection

        lengths = [size_of(blob) for blob in blobs]
        head = pack(header, lengths)
        total = len(head) + sum(lengths)
        if total < CHUNK:
            body = head + b"".join(blobs)  # type: Any
        else:
            body = (chunk for blob in [head] + list(blobs) for chunk in chunks_of(blob))
        if self.connection is None or self.connection.sock is None:
            urls = self.secret["urls"]
            host, port = urls[self.turn % len(urls)].split("://", 1)[1].rsplit(":", 1)
            self.connection = HTTPSConnection(
                host.strip("[]"), int(port), timeout=self.connect_timeout, context=self.context
            )
            self.connection.connect()
        self.connection.sock.settimeout(self.reply_timeout)
        headers = {
            "Authorization": "Bearer " + self.secret["token"],
            "Content-Type": "application/x-sheepdog",
            "Content-Length": str(total),
        }
        self.connection.request("POST", "/requests/%d/%s" % (self.secret["request"], verb), body, headers)
        return self.connection.getresponse()

    def hang_up(self) -> None:
        """Close the connection; the next call opens another, to the next address if there are several."""
        self.turn += 1
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def interrupt(self) -> None:
        """Let a call that is under way fail now: a warning has come, and the server may not answer in time."""
        if not self.calling:
            return
        try:
            self.connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        except (AttributeError, OSError):  # there is none, or it is being made: that is not for long
            pass

    def look_for_addresses(self) -> None:
        """Read the server's addresses again: it writes them anew when it has had to take another port."""
        try:
            with open(os.path.join(self.secret["directory"], "secret.json"), encoding="utf-8") as file:
                urls = json.load(file)["urls"]
            if urls and all("://" in url and url.rsplit(":", 1)[1].isdigit() for url in urls):
                if urls != self.secret["urls"]:
                    self.log("the server is now at %s" % " ".join(urls))
                    self.turn = 0
                    self.next_call = 0.0
                self.secret["urls"] = urls
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass

    def _wait_longer(self, error: Exception, patience: float, retry_after: float) -> None:
        self.failures += 1
        now = time.monotonic()
        if self.failures == 1:
            self.failing_since = now
        if now - self.failing_since > patience:
            raise Refused("no answer from the server for %d s; the last error was: %s" % (patience, error))
        if self.failures in (1, 10, 100) or self.failures % 1000 == 0:
            self.log("cannot reach %s (%s); trying on" % (" ".join(self.secret["urls"]), error))
        # Even the longest pause is shorter than a lease, so that the next server hears of what this worker holds.
        pause = random.uniform(0.2, 1.0) * min(3 * self.heartbeat, 0.25 * 2 ** min(self.failures, 9))
        self.next_call = now + max(pause, retry_after * random.uniform(1.0, 1.5))
        self.look_for_addresses()


def seconds_of(text: "str | None") -> float:
    """Return what a server's Retry-After asks for, if that is not too long; else 0."""
    seconds = int(text) if text and text.isdigit() else 0
    return seconds if seconds <= MAX_RETRY_AFTER else 0


class Worker(object):
    """The parent: keeps the child busy and the server informed. Making one starts its child."""

    def __init__(self, line: Line, settings: "dict[str, Any]", function: "list[Blob]", start: float) -> None:
        self.line = line
        self.signals = line.signals
        settings = {key: settings.get(key) for key in ("max_value", "timeout", "tasks_per_child")}
        self.timeout = settings["timeout"]  # type: float | None
        self.secret = dict(line.secret, **settings)
        self.notice = line.secret.get("notice") or NOTICE  # type: float
        time_limit = line.secret.get("time")
        self.end = start + time_limit if time_limit else float("inf")  # of its walltime
        self.margin = min(self.notice, 0.1 * time_limit) if time_limit else 0.0  # before that
        self.leaving = None  # type: Leaving | None
        self.has_said_so = False  # that it is leaving
        self.function = function
        self.child = self.new_child()
        self.outcomes = collections.deque()  # type: collections.deque[Outcome]
        self.fetched = []  # type: list[Task]
        self.recent = collections.deque(maxlen=RECENT)  # type: collections.deque[float]  # seconds of tasks
        self.ended = 0  # tasks of the present batch
        self.spent = 0.0  # seconds on these
        self.want = 1  # tasks of the next batch
        self.ahead = False  # fetch that while the present one runs
        self.early_deaths = 0  # of children that had not started a task
        self.partings = 0  # of children that the function had left unfit
        self.replaced = 0.0  # when the child was, if it has had no outcome yet
        self.late = 0  # outcomes that came after another

    def run(self) -> None:
        """Work until there is nothing left to do."""
        try:
            while self.step():
                pass
        except Refused:
            self.spool()
            raise
        finally:
            self.child.kill()
            end_orphans()

    def step(self) -> bool:
        """Listen to the child, or talk to the server. Return False when told to stop, or when there is no time left."""
        line = self.line
        if self.leaving is None:
            self.watch_for_the_end()
        if self.leaving is not None:
            return self.leave(self.leaving)
        if self.child.running:
            if self.ahead and not line.failures:
                self.ahead = False
                return self.exchange(self.affordable())  # so that the child need not wait for its next batch
            self.listen()
            if self.child.running:
                return self.exchange(0) if time.monotonic() >= line.next_call else True
        if self.ended:
            each = max(self.spent / self.ended, 1e-6)
            self.want = max(1, min(MAX_BATCH, 20 * self.want, int(BATCH_SECONDS / each)))
        if self.fetched:
            fetched, self.fetched = self.fetched, []
            self.give(fetched)
            return True
        want = self.affordable()
        if not want:
            until = min(self.end, time.monotonic() + self.notice)
            self.prepare_to_leave("its walltime ends before another task could", until)
            return True
        if self.outcomes and not line.failures:
            line.next_call = 0.0
        pause = min(line.next_call, self.end - self.margin) - time.monotonic()
        if pause > 0:
            self.signals.sleep(pause)
            return True
        return self.exchange(want)

    # --- time

    def affordable(self) -> int:
        """Return how many tasks to ask for: what is wanted, if the walltime is enough for it as the last ones took."""
        if self.end == float("inf") or not self.recent:
            return self.want
        left = self.end - self.margin - time.monotonic() - max(self.recent)
        each = max(1e-6, sum(self.recent) / len(self.recent))
        held = len(self.child.running) + len(self.fetched)
        return max(0, min(self.want, int(1 + left / each) - held)) if left > 0 else 0

    def watch_for_the_end(self) -> None:
        """Begin to leave if a warning has come, or if the walltime is nearly over."""
        if self.signals.warning:
            reason = WARNINGS[self.signals.warning]
            self.prepare_to_leave(reason, min(self.end, self.signals.warned + self.notice))
        elif time.monotonic() >= self.end - self.margin:
            self.prepare_to_leave("its walltime of %g s was over" % self.secret["time"], self.end)

    def prepare_to_leave(self, reason: str, until: float) -> None:
        """Hand back what has not begun, and say so at once. The end of the time is for ending and delivering."""
        now = time.monotonic()
        last = min(10.0, max(0.5, (until - now) / 3))
        self.leaving = Leaving(reason, until - last, until - last / 4)
        self.line.log("leaves within %d s: %s" % (until - now, reason))
        self.line.connect_timeout = self.line.reply_timeout = max(0.5, last / 4)
        self.hand_back()
        self.line.next_call = now

    def leave(self, leaving: Leaving) -> bool:
        """Take one step towards the end: the running task may go on for a while, and what has ended is delivered.

        Return False when that is done, or when the time is over: outcomes that the server does not have are files then.
        """
        line, child = self.line, self.child
        now = time.monotonic()
        if child.running and now >= leaving.interrupt:
            text = INTERRUPTION + leaving.reason
            child.terminate(INTERRUPTED, text, max(0.0, leaving.until - now) / 3)
        if now >= line.next_call:
            if not self.exchange(0):
                return False
            line.next_call = min(line.next_call, time.monotonic() + LEAVING_BEAT)
            self.has_said_so = self.has_said_so or not line.failures
        if self.child.running:
            self.listen(leaving.until if self.child.verdict is not None else leaving.interrupt)
        elif not self.outcomes and (self.has_said_so or line.failures):
            return False
        elif self.outcomes and not line.failures:
            line.next_call = now
        elif now < leaving.until:
            self.signals.sleep(min(line.next_call, leaving.until) - now)
        if time.monotonic() < leaving.until:
            return True
        self.spool()
        return False

    # --- the child

    def new_child(self) -> Child:
        """Return a fresh process for the function."""
        return Child(self.secret, self.function[0], self.function[1], self.signals)

    def give(self, tasks: "list[Task]") -> None:
        """Hand the child a batch."""
        if self.child.parting is not None:
            self.replace_child()
        self.ended, self.spent = 0, 0.0
        self.ahead = len(tasks) >= AHEAD
        self.child.give(tasks)

    def listen(self, limit: float = float("inf")) -> None:
        """Take what the child has to say, until it is time for something else; take back what it cannot start soon."""
        child, line = self.child, self.line
        now = time.monotonic()
        waiting = len(child.running) - 1 + len(self.fetched)
        limits = [limit, line.next_call, now + (SOON if child.capture.trim() else LOOK)]
        if waiting:
            limits.append(child.started + STUCK)
        if child.verdict is not None:
            limits.append(child.kill_at)
        elif self.timeout:
            limits.append(child.overdue(self.timeout))
        found, ended = child.collect(min(limits) - now)
        self.take(found)
        before, now = now, time.monotonic()
        if now - before > SUSPENDED:  # nothing here waits for so long: the job was stopped, the child with it
            child.since += now - before
        if ended or (child.verdict is not None and (now >= child.kill_at or not child.running)):
            self.replace_child()
        elif self.timeout and child.running and now >= child.overdue(self.timeout):
            self.end_overdue(self.timeout)
        elif len(found) >= 4 and child.running:  # it has much to say: let it, rather than wake for every word
            time.sleep(min(NAP, (now - child.started) / self.ended * len(child.running) / 2))
        elif waiting and child.running and now - child.started >= STUCK:
            child.started = now
            back = self.hand_back()
            if back:
                line.log("gives %d tasks back: one takes long" % back)
                if not line.failures:
                    line.next_call = now
        if found and not line.failures:
            line.next_call = min(line.next_call, now + STUCK)

    def take(self, found: "list[Outcome]") -> None:
        """Note outcomes, to be delivered."""
        if not found:
            return
        self.early_deaths = 0
        self.ended += len(found)
        seconds = sum([outcome.seconds for outcome in found])
        if self.replaced:  # what a fresh child costs is part of the work
            seconds = max(seconds, time.monotonic() - self.replaced)
            self.replaced = 0.0
        self.spent += seconds
        if self.end != float("inf"):
            self.recent.extend([outcome.seconds for outcome in found[-RECENT:]])
        if self.child.verdict is not None:
            kind, text = self.child.verdict
            found = [
                o if o.kind == RESULT else o._replace(kind=kind, value=text.encode() + b"\n" + o.value) for o in found
            ]
        self.outcomes.extend(found)

    def hand_back(self) -> int:
        """Part with the tasks that have not begun: the next call does not name them. Return how many."""
        count = len(self.child.recall()) + len(self.fetched)
        self.fetched = []
        return count

    def end_overdue(self, timeout: float) -> None:
        """End the task that runs, and no other: those behind it are kept for the next child."""
        child = self.child
        self.fetched = child.recall() + self.fetched
        found, _ = child.collect(0)
        self.take(found)
        if not child.running or time.monotonic() < child.overdue(timeout):
            return  # it has just ended; another has perhaps begun
        text = "the task took longer than its timeout of %g s and was ended" % timeout
        if not child.loaded:
            text = "the function was not loaded within %g s, and its process was ended" % (LOADING + timeout)
        child.terminate(TIMEOUT, text)

    def replace_child(self) -> None:
        """Report the task that the child died of, and let another go on with the rest."""
        child = self.child
        how, found, outcome, left = child.autopsy()
        self.take(found)
        if outcome is not None and outcome.kind == DIED and child.killed_by() in (signal.SIGTERM, signal.SIGKILL):
            if not self.signals.warning:  # schedulers signal all processes of a job; this one may have been the first
                self.signals.sleep(0.1)
            if self.signals.warning:
                text = INTERRUPTION + WARNINGS[self.signals.warning]
                outcome = outcome._replace(kind=INTERRUPTED, value=text.encode())
        if child.parting:
            self.partings += 1
            if self.partings == 1:
                text = "goes on with a fresh process, now and whenever the function leaves its own changed: "
                self.line.log(text + child.parting)
        elif child.parting is None and child.verdict is None:
            self.line.log("the task's process " + how)
            if outcome is None and left:
                self.early_deaths += 1
                if self.early_deaths >= 3:  # that must not go on for ever
                    self.early_deaths = 0
                    index, attempt, _ = left.pop(0)
                    text = "the task's process %s before it could start the task" % how
                    outcome = Outcome(index, attempt, DIED, 0.0, text.encode(), b"")
        if outcome is not None:
            self.outcomes.append(outcome)
        end_orphans()
        self.replaced = time.monotonic()
        self.child = self.new_child()
        if left and self.leaving is None:
            self.child.give(left)

    # --- the server

    def exchange(self, want: int) -> bool:
        """Report outcomes and ask for tasks, in one round trip. Return False when told to stop."""
        sent = self.next_outcomes()
        if len(sent) < len(self.outcomes):
            want = 0  # first the rest of them
        holding = [(index, attempt) for index, (attempt, _) in self.child.running.items()]
        holding += [(index, attempt) for index, attempt, _ in self.fetched]
        holding += [(outcome.task, outcome.attempt) for outcome in list(self.outcomes)[len(sent) :]]
        has_something = self.outcomes or self.child.running
        patience = self.secret["patience"] if has_something else min(self.secret["patience"], SPARE_PATIENCE)
        if self.leaving is not None:
            patience = float("inf")
        answer = self.line.call("exchange", self.header(sent, want, holding), blobs_of(sent), patience)
        if answer is None:
            return True
        reply, arguments = answer
        self.forget(sent)
        if reply.get("stop"):
            return False
        now = time.monotonic()
        self.line.next_call = now + self.line.heartbeat * random.uniform(0.8, 1.2)
        self.note_late(len(reply.get("late", ())))
        if reply.get("drop"):
            self.drop(set(reply["drop"]))
        tasks = [(index, attempt, blob) for (index, attempt), blob in zip(reply["tasks"], arguments)]
        if tasks and (self.child.running or self.fetched):
            self.fetched += tasks
        elif tasks:
            self.give(tasks)
        elif self.outcomes:
            self.line.next_call = now
        elif not self.child.running:
            self.line.next_call = now + reply.get("wait", 1.0)
        return True

    def header(self, sent: "list[Outcome]", want: int, holding: "list[tuple[int, int]]") -> "dict[str, Any]":
        """Return what an exchange says."""
        leaving = None
        if self.leaving is not None:
            seconds = max(0.0, self.leaving.until - time.monotonic())
            leaving = {"reason": self.leaving.reason, "seconds": round(seconds, 1)}
        return {
            "want": want,
            "holding": runs(holding),
            "outcomes": [[o.task, o.attempt, o.kind, round(o.seconds, 6)] for o in sent],
            "leaving": leaving,
        }

    def next_outcomes(self) -> "list[Outcome]":
        """Return the first outcomes, as many as one call takes."""
        sent = []  # type: list[Outcome]
        size = 0
        for outcome in self.outcomes:
            size += size_of(outcome.value)
            if sent and (size > MAX_CALL or len(sent) >= 2 * MAX_BATCH):
                break
            sent.append(outcome)
        return sent

    def forget(self, sent: "list[Outcome]") -> None:
        """Drop the first outcomes: they are safe elsewhere."""
        for _ in sent:
            outcome = self.outcomes.popleft()
            if not isinstance(outcome.value, bytes):
                outcome.value.close()

    def note_late(self, count: int) -> None:
        """Say once in a while that others had been quicker."""
        if count and len(str(self.late + count)) > len(str(self.late or "")):
            self.line.log("%d outcomes came too late: the server had others of the same tasks" % (self.late + count))
        self.late += count

    def drop(self, tasks: "set[int]") -> None:
        """Stop running tasks that have ended elsewhere."""
        child = self.child
        found, _ = child.collect(0)
        self.take(found)
        if any(index in tasks for index in child.running):
            kept = child.recall() + self.fetched
            self.fetched = [task for task in kept if task[0] not in tasks]
            if any(index in tasks for index in child.running):
                self.take(child.finish())
                child.close()
                end_orphans()
                self.child = self.new_child()
        self.fetched = [task for task in self.fetched if task[0] not in tasks]
        self.outcomes = collections.deque([outcome for outcome in self.outcomes if outcome.task not in tasks])

    def spool(self) -> None:
        """Write the outcomes that the server does not have into files, each as the body of a call. It collects them."""
        if not self.outcomes:
            return
        line = self.line
        directory = os.path.join(self.secret["directory"], "spool")
        name = os.path.join(directory, line.about["worker"])
        count = len(self.outcomes)
        number = 0
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            while self.outcomes:
                number += 1
                sent = self.next_outcomes()
                blobs = blobs_of(sent)
                head = pack(line.signed(self.header(sent, 0, [])), [size_of(blob) for blob in blobs])
                write_durably("%s-%d" % (name, number), [head] + blobs)
                self.forget(sent)
        except OSError as error:
            line.log("%d outcomes are lost: they cannot be written to %s: %s" % (len(self.outcomes), directory, error))
        else:
            line.log("%d outcomes wait for the server in %s" % (count, directory))


def blobs_of(outcomes: "list[Outcome]") -> "list[Blob]":
    """Return the blobs of a call that reports these outcomes."""
    return [blob for outcome in outcomes for blob in (outcome.value, outcome.output)]


def write_durably(path: str, blobs: "list[Blob]") -> None:
    """Write a file that is there as a whole, or not at all."""
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb") as file:
            for blob in blobs:
                for chunk in chunks_of(blob):
                    file.write(chunk)
            file.flush()
            os.fsync(fd)
        os.rename(path + ".new", path)
    except OSError:
        os.unlink(path + ".new")
        raise


def work(directory: str, element: str, start: float) -> int:
    """Run a worker; return its exit status."""
    signals = Signals()
    signals.install()
    adopt_orphans()
    umask = os.umask(0o077)
    with open(os.path.join(directory, "secret.json"), encoding="utf-8") as file:
        secret = dict(json.load(file), directory=directory, umask=umask)
    host = socket.gethostname()
    about = {"worker": uuid.uuid4().hex, "host": host, "pid": os.getpid(), "element": element}
    line = Line(secret, dict(about, wave=secret.get("wave", 1)), signals)
    line.log("on %s, Python %s, request %d" % (host, sys.version.split()[0], secret["request"]))
    try:
        settings, function = line.join()
        worker = Worker(line, settings, function, start)
        worker.run()
    except Over as reason:
        line.log("ends: %s" % reason)
    except Refused as error:
        line.log("ends: %s" % error)
        return 1
    else:
        line.log("ends: %s" % (worker.leaving.reason if worker.leaving is not None else "nothing left to do"))
    return 0


def main() -> None:
    """Run a worker. It ends with 0 or 1, never with a status that means something to a scheduler."""
    status = 1
    try:
        directory, element = sys.argv[1:]
        status = work(directory, element, time.monotonic())
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # a full disk, of which Python would make the status 120
        pass
    os._exit(status)


if __name__ == "__main__":
    main()
