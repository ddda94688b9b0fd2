"""The worker: fetches tasks from the server, runs them in a child process, reports their outcomes.

This one file travels to the cluster and runs there on a bare Python, 3.6 or newer. It imports the standard library
and nothing else; the host imports from it what both ends must agree on (the frames, how a value is dumped).

    server  <-- exchange(outcomes, want) -- PARENT  -- tasks, tokens -->  CHILD
            --- tasks ------------------->          <-- outcomes --------  runs the function

The parent talks: heartbeats, outcomes, retries. The child runs the function, and may die of it: the parent reports
that as the task's outcome and forks another. A task is the child's once it has read a token for it from a pipe; a
token that the parent reads back first is a task recalled. So neither can believe that the other has it.

Run as: python client.py DIRECTORY ELEMENT. The directory holds secret.json (see job_file.py) and cloudpickle.zip;
the element is the name of this copy within its array job.
"""

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

RESULT, ERROR = 0, 1  # the kinds of outcome, on the wire
OUTCOME = struct.Struct("!QIBdQI")  # index, attempt, kind, seconds, bytes of value, bytes of output
TASK = struct.Struct("!QIQ")  # index, attempt, bytes of arguments

Outcome = collections.namedtuple("Outcome", "task attempt kind seconds value output")


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


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends. Elsewhere than on Linux, a closed pipe does it."""
    if sys.platform.startswith("linux"):
        try:
            import ctypes

            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            pass
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def limit_memory(limit: int) -> None:
    """Limit the address space of this process, in bytes."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


class Capture(object):
    """What the task prints: both of its streams, into one file that the parent can read when the child is dead."""

    def __init__(self) -> None:
        try:
            self.file = tempfile.TemporaryFile(buffering=0)
        except OSError:  # a full or missing temporary directory is no reason not to compute
            self.file = open(os.devnull, "wb+", buffering=0)
        flags = fcntl.fcntl(self.file, fcntl.F_GETFL)
        fcntl.fcntl(self.file, fcntl.F_SETFL, flags | os.O_APPEND)  # it is cut down while others write

    def redirect(self) -> None:
        """Send the streams of this process into the file."""
        os.dup2(self.file.fileno(), 1)
        os.dup2(self.file.fileno(), 2)
        self.streams = [open(fd, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False) for fd in (1, 2)]
        sys.stdout, sys.stderr = self.streams
        vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)

    def take(self) -> bytes:
        """Return the end of what was printed, and empty the file."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        out, err = self.streams
        if sys.stdout is not out or sys.stderr is not err or out.closed or err.closed:
            self.redirect()
        return self.end()

    def trim(self) -> None:
        """Forget all but the end of what is printed, if it is much: the node's disk is not ours to fill."""
        fd = self.file.fileno()
        size = os.lseek(fd, 0, os.SEEK_END)
        if size > CHUNK:
            tail = os.pread(fd, MAX_OUTPUT, size - MAX_OUTPUT)
            os.ftruncate(fd, 0)
            os.write(fd, b"... left out ...\n" + tail)

    def end(self) -> bytes:
        """Return the end of the file, and empty it."""
        fd = self.file.fileno()
        size = os.lseek(fd, 0, os.SEEK_END)
        if not size:
            return b""
        self.file.seek(max(0, size - MAX_OUTPUT))
        output = self.file.read(MAX_OUTPUT)
        os.ftruncate(fd, 0)
        return output if size <= MAX_OUTPUT else b"... %d bytes left out ...\n" % (size - MAX_OUTPUT) + output


class Target(object):
    """The function that the tasks call. Loaded at the first task, so that a failure is that task's outcome."""

    def __init__(self, function: bytes, namespace: bytes) -> None:
        self.blobs = [function, namespace]
        self.function = None  # type: Callable[..., Any] | None
        self.clock = 0.0  # when the task began, the loading of the function left out

    def __call__(self, arguments: bytes) -> "tuple[int, bytes]":
        """Return the kind and the value of the outcome."""
        self.clock = time.perf_counter()
        try:
            if self.function is None:
                try:
                    self.function = load_function(*self.blobs)
                    self.blobs = []
                    self.clock = time.perf_counter()
                except BaseException as error:
                    return ERROR, b"the function cannot be loaded here: " + explain(error, 2)
            try:
                args, kwargs = pickle.loads(arguments)
            except BaseException as error:
                return ERROR, b"the arguments cannot be loaded here: " + explain(error, 1)
            result = self.function(*(args or ()), **kwargs)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too are the task's outcome
            return ERROR, explain(error, 1)
        try:
            return RESULT, dump(result)
        except BaseException as error:
            what = "the result, a %s, cannot be serialised: " % type(result).__name__
            return ERROR, what.encode() + explain(error, 1)


def run_child(
    parent: int,
    pipes: "tuple[int, int, int]",
    capture: Capture,
    secret: "dict[str, Any]",
    function: bytes,
    namespace: bytes,
) -> None:
    """Run tasks until the pipe of tasks is closed."""
    tasks, tokens, outcomes = pipes
    os.setsid()
    die_with_parent(parent)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    capture.redirect()
    if secret.get("memory_limit"):
        limit_memory(secret["memory_limit"])
    sys.modules["__main__"] = types.ModuleType("__main__")  # the user's names must not meet this file's
    sys.argv = [""]
    os.umask(secret.get("umask", 0o022))
    sys.path[0:1] = [os.path.join(secret["directory"], "cloudpickle.zip")]
    os.environ["SHEEPDOG_REQUEST_ID"] = str(secret["request"])
    target = Target(function, namespace)
    last_attempt = None
    stream = open(tasks, "rb", CHUNK)
    number, credit = 0, False
    me = os.getpid()
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
            os.environ["SHEEPDOG_TASK_INDEX"] = str(index)
            if attempt != last_attempt:
                os.environ["SHEEPDOG_ATTEMPT"] = str(attempt)
                last_attempt = attempt
            kind, value = target(arguments)
            if os.getpid() != me:  # the function forked, and this is its child
                os._exit(0)
            seconds = time.perf_counter() - target.clock
            if len(value) > secret["max_value"]:
                text = "the result has %d bytes; at most %d can be stored: write it to a file and return its name"
                kind, value = ERROR, (text % (len(value), secret["max_value"])).encode()
            output = capture.take()
            head = OUTCOME.pack(index, attempt, kind, seconds, len(value), len(output))
            if len(value) < CHUNK:
                write_all(outcomes, head + value + output)
            else:
                for part in (head, value, output):
                    write_all(outcomes, part)
            del value, arguments


# --- the parent


class Child(object):
    """The process that runs the function, seen from the parent."""

    def __init__(self, secret: "dict[str, Any]", function: "Blob", namespace: "Blob") -> None:
        # index -> attempt, arguments; in the order of running
        self.running = collections.OrderedDict()  # type: collections.OrderedDict[int, tuple[int, Blob]]
        self.capture = Capture()
        self.started = time.monotonic()  # of the batch
        self.status = None  # type: int | None
        self.buffer = bytearray()
        # an outcome whose value is on its way into a file: that, the bytes that are missing, its head
        self.large = None  # type: tuple[BinaryIO, int, Any] | None
        tasks, self.tasks = os.pipe()
        tokens, self.tokens = os.pipe()
        self.outcomes, outcomes = os.pipe()
        self.number = 0  # of the batch, and the value of its tokens
        parent = os.getpid()
        self.spare_tokens = os.dup(tokens)
        os.set_blocking(tokens, False)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                blobs = [b"".join(chunks_of(blob)) for blob in (function, namespace)]
                for fd in range(3, 1024):
                    if fd not in (tasks, tokens, outcomes, self.capture.file.fileno()):
                        try:
                            os.close(fd)
                        except OSError:
                            pass
                run_child(parent, (tasks, tokens, outcomes), self.capture, secret, *blobs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        for fd in (tasks, tokens, outcomes):
            os.close(fd)
        os.set_blocking(self.outcomes, False)

    def give(self, tasks: "list[Task]") -> None:
        """Hand tasks, (index, attempt, blob), to a child that has none."""
        for index, attempt, blob in tasks:
            self.running[index] = (attempt, blob)
        self.number = (self.number + 1) % 256
        os.write(self.tokens, bytes([self.number]) * len(tasks))
        self.started = time.monotonic()
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
        write_all(self.tasks, data)

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
        """Wait for the child to say something, a second at most. Return its outcomes, and whether it has ended.

        A process that it forked may hold its pipes open when it is dead, so the end of the pipe is not waited for.
        """
        if not select.select([self.outcomes], [], [], min(1.0, max(0.0, timeout)))[0] and not self._has_ended():
            return [], False
        found = []  # type: list[Outcome]
        while True:
            try:
                data = os.read(self.outcomes, CHUNK)
            except BlockingIOError:
                return found, self.status is not None
            if not data:
                return found, True
            found.extend(self._parse(data))

    def _has_ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

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
            self.running.pop(head[0], None)
            yield Outcome(head[0], head[1], head[2], head[3], value, output)

    def autopsy(self) -> "tuple[str, Outcome | None, list[Task]]":
        """Return how a dead child ended, the outcome of the task it died of, if any, and the tasks it left."""
        deadline = time.monotonic() + 1.0
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.002)
        status = self.status
        self._end()
        if status is None:
            how = "closed its pipe to the worker, and was ended"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            names = {int(s): s.name for s in signal.Signals}
            how = "was killed by signal %d (%s)" % (number, names.get(number, "?"))
        else:
            how = "exited with status %d" % os.WEXITSTATUS(status)
        left = self.recall()
        outcome = None
        if self.running:  # it had a token for this one
            index, (attempt, _) = next(iter(self.running.items()))
            text = "the task's process %s before the function returned" % how
            seconds = time.monotonic() - self.started
            outcome = Outcome(index, attempt, ERROR, seconds, text.encode(), self.capture.end())
        self.running.clear()
        self.close()
        return how, outcome, left

    def close(self) -> None:
        """Close the pipes and the captured output."""
        for fd in (self.tasks, self.tokens, self.spare_tokens, self.outcomes):
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
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except OSError:
            pass
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]


class Refused(Exception):
    """The server will not have this worker, or has not answered for too long: it ends."""


class Line(object):
    """The connection to the server: one call at a time, kept alive, tried again with growing pauses."""

    def __init__(self, secret: "dict[str, Any]", about: "dict[str, Any]") -> None:
        self.secret = secret
        self.about = about
        self.calls = 0
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
        print(time.strftime("%Y-%m-%d %H:%M:%S"), "worker %s: %s" % (self.about["worker"][:8], text), flush=True)

    def join(self) -> "tuple[dict[str, Any], list[Blob]]":
        """Say what this worker is; return the settings and the function. Keep trying."""
        while True:
            header = {"protocol": PROTOCOL, "python": describe_python()}
            answer = self.call("join", header, (), self.secret["patience"])
            if answer is not None:
                self.heartbeat = answer[0]["heartbeat"]
                return answer
            time.sleep(max(0.0, self.next_call - time.monotonic()))

    def call(
        self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]", patience: float
    ) -> "tuple[dict[str, Any], list[Blob]] | None":
        """Make a call; return the reply's header and blobs. None if it failed: try again from next_call on.

        Refused if the server says no, or when nothing was heard of it for longer than patience.
        """
        from http.client import HTTPException

        self.calls += 1
        try:
            reply = self._send(verb, dict(header, call=self.calls, **self.about), blobs)
            if reply.status != 200:
                text = "%d: %s" % (reply.status, reply.read(4096).decode("utf-8", "replace"))
                if reply.status < 500 and reply.status != 429:
                    raise Refused("the server says " + text)
                raise OSError("the server says " + text)
            answer = unpack(reply)
            found = [read_blob(reply, length) for length in answer["blobs"]]
            reply.read()  # to its end, or the connection cannot be used again
        except (OSError, HTTPException, ValueError) as error:
            self.hang_up()
            self._wait_longer(error, patience)
            return None
        if self.failures:
            self.log("the server answers again")
        self.failures = 0
        return answer, found

    def _send(self, verb: str, header: "dict[str, Any]", blobs: "Sequence[Blob]") -> "HTTPResponse":
        from http.client import HTTPSConnection

        lengths = [size_of(blob) for blob in blobs]
        head = pack(header, lengths)
        total = len(head) + sum(lengths)
        if total < CHUNK:
            body = head + b"".join(blobs)  # type: Any
        else:
            body = (chunk for blob in [head] + list(blobs) for chunk in chunks_of(blob))
        if self.connection is None:
            urls = self.secret["urls"]
            host, port = urls[self.turn % len(urls)].split("://", 1)[1].rsplit(":", 1)
            self.connection = HTTPSConnection(host.strip("[]"), int(port), timeout=60, context=self.context)
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

    def _wait_longer(self, error: Exception, patience: float) -> None:
        self.failures += 1
        now = time.monotonic()
        if self.failures == 1:
            self.failing_since = now
        if now - self.failing_since > patience:
            raise Refused("no answer from the server for %d s; the last error was: %s" % (patience, error))
        if self.failures in (1, 10, 100) or self.failures % 1000 == 0:
            self.log("cannot reach %s (%s); trying on" % (" ".join(self.secret["urls"]), error))
        # Even the longest pause is shorter than a lease, so that the next server hears of what this worker holds.
        self.next_call = now + random.uniform(0.2, 1.0) * min(3 * self.heartbeat, 0.25 * 2 ** min(self.failures, 9))


class Worker(object):
    """The parent: keeps the child busy and the server informed. Making one starts its child."""

    def __init__(self, line: Line, settings: "dict[str, Any]", function: "list[Blob]") -> None:
        self.line = line
        self.secret = dict(line.secret, max_value=settings["max_value"])
        self.function = function
        self.child = Child(self.secret, function[0], function[1])
        self.outcomes = collections.deque()  # type: collections.deque[Outcome]
        self.fetched = []  # type: list[Task]
        self.ended = 0  # tasks of the present batch
        self.spent = 0.0  # seconds on these
        self.want = 1  # tasks of the next batch
        self.ahead = False  # fetch that while the present one runs
        self.early_deaths = 0  # of children that had not started a task

    def run(self) -> None:
        """Work until there is nothing left to do."""
        try:
            while self.step():
                pass
        finally:
            self.child.kill()

    def step(self) -> bool:
        """Listen to the child, or talk to the server. Return False when told to stop."""
        line = self.line
        if self.child.running:
            if self.ahead and not line.failures:
                self.ahead = False
                return self.exchange(self.want)  # so that the child need not wait for its next batch
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
        if self.outcomes and not line.failures:
            line.next_call = 0.0
        pause = line.next_call - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        return self.exchange(self.want)

    def give(self, tasks: "list[Task]") -> None:
        """Hand the child a batch."""
        self.ended, self.spent = 0, 0.0
        self.ahead = len(tasks) >= AHEAD
        self.child.give(tasks)

    def listen(self) -> None:
        """Take what the child has to say, until it is time for a call; take back what it cannot start soon."""
        child, line = self.child, self.line
        child.capture.trim()
        waiting = len(child.running) - 1 + len(self.fetched)
        limit = line.next_call
        if waiting:
            limit = min(limit, child.started + STUCK)
        found, ended = child.collect(limit - time.monotonic())
        self.outcomes.extend(found)
        self.ended += len(found)
        self.spent += sum(outcome.seconds for outcome in found)
        now = time.monotonic()
        if found:
            self.early_deaths = 0
        if ended:
            self.replace_child()
        elif len(found) >= 4 and child.running:  # it has much to say: let it, rather than wake for every word
            time.sleep(min(NAP, (now - child.started) / self.ended * len(child.running) / 2))
        elif waiting and child.running and now - child.started >= STUCK:
            child.started = now
            back = child.recall() + self.fetched
            if back:
                line.log("gives %d tasks back: one takes long" % len(back))
                self.fetched = []
                if not line.failures:
                    line.next_call = now
        if found and not line.failures:
            line.next_call = min(line.next_call, now + STUCK)

    def replace_child(self) -> None:
        """Report the task that the child died of, and let another go on with the rest."""
        how, outcome, left = self.child.autopsy()
        self.line.log("the task's process " + how)
        if outcome is None and left:
            self.early_deaths += 1
            if self.early_deaths >= 3:  # that must not go on for ever
                self.early_deaths = 0
                index, attempt, _ = left.pop(0)
                text = "the task's process %s before it could start the task" % how
                outcome = Outcome(index, attempt, ERROR, 0.0, text.encode(), b"")
        if outcome is not None:
            self.outcomes.append(outcome)
        self.child = Child(self.secret, self.function[0], self.function[1])
        if left:
            self.give(left)

    def exchange(self, want: int) -> bool:
        """Report outcomes and ask for tasks, in one round trip. Return False when told to stop."""
        sent = []  # type: list[Outcome]
        size = 0
        for outcome in self.outcomes:
            size += size_of(outcome.value)
            if sent and (size > MAX_CALL or len(sent) >= 2 * MAX_BATCH):
                want = 0  # first the rest of them
                break
            sent.append(outcome)
        holding = [(index, attempt) for index, (attempt, _) in self.child.running.items()]
        holding += [(index, attempt) for index, attempt, _ in self.fetched]
        holding += [(outcome.task, outcome.attempt) for outcome in list(self.outcomes)[len(sent) :]]
        header = {
            "want": want,
            "holding": runs(holding),
            "outcomes": [[o.task, o.attempt, o.kind, round(o.seconds, 6)] for o in sent],
        }
        blobs = [blob for outcome in sent for blob in (outcome.value, outcome.output)]
        has_something = self.outcomes or self.child.running
        patience = self.secret["patience"] if has_something else min(self.secret["patience"], SPARE_PATIENCE)
        answer = self.line.call("exchange", header, blobs, patience)
        if answer is None:
            return True
        reply, arguments = answer
        for _ in sent:
            outcome = self.outcomes.popleft()
            if not isinstance(outcome.value, bytes):
                outcome.value.close()
        if reply.get("stop"):
            return False
        now = time.monotonic()
        self.line.next_call = now + self.line.heartbeat * random.uniform(0.8, 1.2)
        tasks = [(index, attempt, blob) for (index, attempt), blob in zip(reply["tasks"], arguments)]
        if tasks and self.child.running:
            self.fetched += tasks
        elif tasks:
            self.give(tasks)
        elif self.outcomes:
            self.line.next_call = now
        elif not self.child.running:
            self.line.next_call = now + reply.get("wait", 1.0)
        return True


def main() -> None:
    """Run a worker. It ends with 0 or 1, never with a status that means something to a scheduler."""
    umask = os.umask(0o077)
    directory, element = sys.argv[1:]
    with open(os.path.join(directory, "secret.json"), encoding="utf-8") as file:
        secret = dict(json.load(file), directory=directory, umask=umask)
    host = socket.gethostname()
    line = Line(secret, {"worker": uuid.uuid4().hex, "host": host, "pid": os.getpid(), "element": element})
    line.log("on %s, Python %s, request %d" % (host, sys.version.split()[0], secret["request"]))
    try:
        settings, function = line.join()
        Worker(line, settings, function).run()
    except Refused as error:
        line.log("ends: %s" % error)
        sys.exit(1)
    line.log("nothing left to do")


if __name__ == "__main__":
    main()
