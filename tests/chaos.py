"""Run thousands of short tasks while everything around them is killed, stopped, cut or filled; then look.

    python -m tests.chaos --seed 7               one round on local processes
    python -m tests.chaos --seed 7 --cluster     one round on the test cluster
    python -m tests.chaos --minutes 30           rounds of both in turn, with new seeds

What happens follows from the seed alone: which task does what, and which events come when. An event is due when a
share of the tasks has ended, so that a slow machine sees what a fast one does. Root is needed for the cluster, and for
the small file system in which the database lies.
"""

import argparse
import contextlib
import functools
import json
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import sheepdog
from sheepdog.errors import SheepdogError
from sheepdog.server.life import log_file
from sheepdog.storage import Storage
from tests.cluster import Cluster

ROOT = Path(__file__).parent.parent
PYTHON = "/opt/python/bin/python3"  # on the test cluster
TASKS = 10_000
EVENTS = 30
LEASE = 4.0
LIMIT = 300.0  # seconds that a round may take; what follows is the diagnosis
WORKERS = 8
DISK = 64 << 20
PRIVATELY = ["unshare", "--mount", "--propagation=private"]

KINDS = {
    "kill worker": 4,
    "kill child": 4,
    "kill server": 3,
    "kill client": 3,
    "kill all workers": 1,
    "stop server": 2,
    "stop worker": 2,
    "fill disk": 1,
}
ALL_KINDS = {**KINDS, "cut": 4, "qdel": 3}  # on the cluster
HOSTS = ("node1", "node2", "outside", "head")

KEYS = {field.name for field in fields(sheepdog.Config)}
RESUBMITS = "resubmissions" in KEYS  # else the last workers must be left alive
RETRIES = "retries" in KEYS  # else a task whose process was killed by us ends with that error
SPARED = 0 if RESUBMITS else 3


# --- the tasks


def fate(index: int, seed: int) -> tuple[str, float]:
    """What a task does, and after how many seconds: 1 to 50 ms, the shorter the more often."""
    dice = random.Random(f"{seed} {index}")
    [what] = dice.choices(["return", "raise", "kill", "exit", "segfault"], [920, 50, 10, 10, 10])
    return what, 0.001 * 50 ** dice.random()


def task(index: int, seed: int, ran: str) -> int:
    """Leave a line in a file of this host; then do what is this task's fate."""
    import faulthandler

    line = f"{index} {os.environ['SHEEPDOG_ATTEMPT']} {os.getpid()}\n"
    file = os.open(f"{ran}/{socket.gethostname()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(file, line.encode())
    os.close(file)
    what, seconds = fate(index, seed)
    time.sleep(seconds)
    if what == "raise":
        raise ValueError(f"task {index} raises")
    if what == "kill":
        os.kill(os.getpid(), 9)
    if what == "exit":
        os._exit(3)
    if what == "segfault":
        faulthandler._sigsegv()  # type: ignore[attr-defined]
    return index * index


WORDS = {"kill": "killed by signal 9", "exit": "exited with status 3", "segfault": "killed by signal 11"}


def is_right(index: int, seed: int, value: object, error: str | None) -> bool:
    """Whether this is the one outcome that the task may have."""
    what, _ = fate(index, seed)
    if what == "return":
        return value == index * index and error is None
    if value is not None or error is None:
        return False
    first = error.splitlines()[0]
    return first == f"ValueError: task {index} raises" if what == "raise" else WORDS[what] in first


def is_ours(error: object, words: str) -> bool:
    """Whether it is an error that our own kills may explain."""
    return isinstance(error, str) and words in error


# --- the events


@dataclass(frozen=True)
class Event:
    share: float  # of the tasks that have ended when it is due
    pause: float  # seconds after that, and after the event before
    kind: str
    target: float  # 0 to 1: which of those that there are
    seconds: float  # that it lasts, if it lasts

    def __str__(self) -> str:
        return f"{self.share:.3f} +{self.pause:.2f} s: {self.kind} ({self.target:.3f}, {self.seconds:.1f} s)"


def schedule(seed: int, kinds: dict[str, int], count: int) -> list[Event]:
    """Events of all kinds, some of them close together."""
    dice = random.Random(seed)
    names = list(kinds)[:count]
    names += dice.choices(list(kinds), list(kinds.values()), k=count - len(names))
    dice.shuffle(names)
    shares = sorted(dice.uniform(0.01, 0.93) for _ in range(-(-count // 2)))
    when = sorted([*shares, *dice.choices(shares, k=count - len(shares))])
    return [
        Event(share, dice.uniform(0, 0.5), name, dice.random(), dice.uniform(0.5, 1.5 * LEASE))
        for share, name in zip(when, names, strict=True)
    ]


# --- the stages


class Stage(Protocol):
    """Where a round is played."""

    name: str
    kinds: dict[str, int]
    config: dict[str, Any]
    ran: Path
    ran_there: str

    def start(self, words: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start Python with these words in the user's place."""

    def processes(self) -> dict[int, list[str]]:
        """The processes of this round, with their command lines."""

    def do(self, event: Event, workers: list[int]) -> tuple[str, Callable[[], object] | None]:
        """Do what only this stage can. Return what was done, and what undoes it."""

    def what_else_is_left(self) -> str:
        """What of this round there is beside processes."""


class Here:
    """Local processes."""

    name = "local"
    kinds = KINDS

    def __init__(self, place: Path) -> None:
        self.place = place
        self.config: dict[str, Any] = {}
        self.ran = place / "ran"
        self.ran_there = str(self.ran)
        (place / "home").mkdir()

    def start(self, words: list[str], **options: Any) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("SHEEPDOG_")}
        env |= {"HOME": str(self.place / "home"), "PYTHONPATH": f"{ROOT}:{ROOT}/src"}
        return subprocess.Popen([sys.executable, *words], cwd=self.place, env=env, text=True, **options)

    def processes(self) -> dict[int, list[str]]:
        return {pid: line for pid, line in command_lines() if any(str(self.place) in word for word in line)}

    def do(self, event: Event, workers: list[int]) -> tuple[str, Callable[[], object] | None]:
        raise ValueError(event.kind)

    def what_else_is_left(self) -> str:
        return ""


class There:
    """The test cluster, seen from a host outside of it."""

    name = "cluster"
    kinds = ALL_KINDS

    def __init__(self, place: Path, cluster: Cluster) -> None:
        self.place = place
        self.cluster = cluster
        self.config: dict[str, Any] = {"host": "head", "shell": PYTHON, "poll_interval": 1}
        self.ran = cluster.home_of("sheep") / "ran"
        self.ran_there = "/home/sheep/ran"
        self.deleted: set[tuple[str, str]] = set()  # elements of array jobs

    def start(self, words: list[str], **options: Any) -> subprocess.Popen[str]:
        env = {"PYTHONPATH": f"{ROOT}:{ROOT}/src"}
        return self.cluster.popen("outside", [sys.executable, *words], env=env, cwd=self.place, **options)

    def processes(self) -> dict[int, list[str]]:
        ours = {namespace(self.cluster.pid(host)) for host in HOSTS}
        return {
            pid: line
            for pid, line in command_lines()
            if namespace(pid) in ours and any("/.sheepdog/" in word or str(self.place) in word for word in line)
        }

    def do(self, event: Event, workers: list[int]) -> tuple[str, Callable[[], object] | None]:
        if event.kind == "cut":
            host = HOSTS[int(event.target * len(HOSTS))]
            self.cluster.cut(host)
            return f"{host}, for {event.seconds:.1f} s", functools.partial(self.cluster.mend, host)
        pid = pick(workers, event.target)
        job, element = element_of(pid)
        self.deleted.add((job, element))
        if not {each for each in map(element_of, workers) if each[0] == job} - self.deleted:
            return f"not {job}.{element}: that would be all of it, and end its request", None
        self.cluster.on("head", ["qdel", job, "-t", element], user="sheep", check=False)
        return f"{job}.{element}", None

    def what_else_is_left(self) -> str:
        return self.cluster.on("head", ["qstat", "-u", "*"]).stdout


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """All processes of this machine that have not ended, but not this one."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            if line and int(directory.name) != os.getpid():
                yield int(directory.name), line


def namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def element_of(pid: int) -> tuple[str, str]:
    """Return the array job of a worker and its element; nothing of one that has ended."""
    try:
        return variable(pid, "JOB_ID"), variable(pid, "SGE_TASK_ID")
    except OSError:
        return "", ""


def variable(pid: int, name: str) -> str:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return next((entry.partition("=")[2] for entry in entries if entry.startswith(f"{name}=")), "")


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def runs_worker(line: list[str]) -> bool:
    return any(word.endswith("/client.pyz") for word in line[1:4])


def pick(of: list[int], target: float) -> int:
    return of[int(target * len(of))]


def send(number: int, *pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


# --- a round


class Failed(Exception):
    """A round did not end, or not as it must."""


class Round:
    """One request, and what befalls it."""

    def __init__(self, stage: Stage, place: Path, seed: int, tasks: int, events: int, limit: float) -> None:
        self.stage = stage
        self.place = place
        self.seed = seed
        self.tasks = tasks
        self.limit = limit
        self.events = schedule(seed, stage.kinds, events)
        self.store = place / "store"
        self.dbfile = str(self.store / "chaos.sqlite")
        self.found = place / "found"
        self.began = time.monotonic()
        self.done: list[str] = []  # what was done, in words
        self.counts: Counter[str] = Counter()
        self.undo: list[tuple[float, str, Callable[[], object]]] = []
        self.client: subprocess.Popen[str] | None = None
        self.next_client = 0.0

    def run(self) -> str:
        """Play it, and return a row of the summary."""
        self.store.mkdir(exist_ok=True)
        self.stage.ran.mkdir()
        self.stage.ran.chmod(0o777)
        try:
            self.request_id = self.begin()
            self.play()
            lasted = time.monotonic() - self.began
            self.see_that_nothing_is_left()
            return self.check(lasted)
        except Failed as error:
            raise Failed(f"{error}\n{self.diagnosis()}") from error
        finally:
            self.clear_up()

    # what is started

    def begin(self) -> int:
        """Make the request."""
        config = {**self.stage.config, "dbfile": self.dbfile, "workers": WORKERS, "lease": LEASE}
        wanted = {"max_losses": 1000, "retries": 3, "retry_delay": 0.1, "resubmissions": 20}
        config |= {key: value for key, value in wanted.items() if key in KEYS}
        words = ["-m", "tests.chaos", "begin", json.dumps(config), str(self.tasks), str(self.seed)]
        maker = self.stage.start([*words, self.stage.ran_there], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = maker.communicate(timeout=self.limit)
        if maker.returncode:
            raise Failed(f"the request could not be made:\n{errors}")
        return int(output)

    def keep_client(self) -> bool:
        """Start the client again if it has ended. Return whether it has all results."""
        now = time.monotonic()
        if self.client is not None and self.client.poll() is not None:
            if self.found.exists():
                return True
            if self.client.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
                self.note(f"the client ended: {self.client_errors.read_text().strip().splitlines()[-1:]}")
            self.client, self.next_client = None, now + 0.3
        if self.client is None and now >= self.next_client:
            words = ["-m", "tests.chaos", "wait", str(self.request_id), self.dbfile, str(self.found)]
            with self.client_errors.open("w") as errors:
                self.client = self.stage.start(words, stderr=errors)
        return False

    @property
    def client_errors(self) -> Path:
        return self.place / "client.errors"

    # what there is

    def server(self) -> list[int]:
        return [pid for pid, line in self.stage.processes().items() if "serve" in line and self.dbfile in line]

    def workers(self) -> tuple[list[int], list[int]]:
        """The parents and the children."""
        pids = [pid for pid, line in sorted(self.stage.processes().items()) if runs_worker(line)]
        parents = [pid for pid in pids if parent(pid) not in pids]
        return parents, [pid for pid in pids if pid not in parents]

    def ended(self) -> float:
        """The share of the tasks that have ended."""
        with contextlib.suppress(SheepdogError), Storage(self.dbfile) as storage:
            progress = storage.progress(self.request_id)
            return (progress.done + progress.failed) / self.tasks
        return 0.0  # the disk is full, or the database locked

    # what happens

    def play(self) -> None:
        waiting = list(self.events)
        last = time.monotonic()
        while not self.keep_client():
            now = time.monotonic()
            if now - self.began > self.limit:
                raise Failed(f"it has not ended after {self.limit:.0f} s")
            for entry in [entry for entry in self.undo if entry[0] <= now]:
                self.take_back(entry)
            if waiting and now >= last + waiting[0].pause and self.ended() >= waiting[0].share:
                self.befall(waiting.pop(0))
                last = time.monotonic()
            time.sleep(0.05)
        while self.undo:
            self.take_back(self.undo[0])
        for event in waiting:
            self.note(f"too late for {event.kind}")

    def befall(self, event: Event) -> None:
        try:
            what, undo = self.do(event)
        except (IndexError, OSError) as error:
            self.note(f"{event.kind}: there was none ({error})")
            return
        self.counts[event.kind] += 1
        self.note(f"{event.kind} {what}")
        if undo:
            self.undo.append((time.monotonic() + event.seconds, event.kind, undo))

    def do(self, event: Event) -> tuple[str, Callable[[], object] | None]:
        """Make an event happen, or raise IndexError if it cannot. Return what was done, and what undoes it."""
        parents, children = self.workers()
        killable = parents[: max(0, len(parents) - SPARED)]
        if event.kind == "kill worker":
            pid = pick(killable, event.target)
            send(signal.SIGKILL, pid)
            return f"{pid} of {len(parents)}", None
        if event.kind == "kill all workers":
            if not (killable and RESUBMITS):
                raise IndexError("nobody would take their place")
            send(signal.SIGKILL, *killable)
            return f"{killable} of {len(parents)}", None
        if event.kind == "kill child":
            pid = pick(children, event.target)
            send(signal.SIGKILL, pid)
            return str(pid), None
        if event.kind == "kill client":
            if self.client is None:
                raise IndexError("it is not running")
            self.client.kill()
            return "", None
        if event.kind in ("kill server", "stop server"):
            pid = self.server()[0]
            if event.kind == "kill server":
                send(signal.SIGKILL, pid)
                return str(pid), None
            send(signal.SIGSTOP, pid)
            return f"{pid} for {event.seconds:.1f} s", functools.partial(send, signal.SIGCONT, pid)
        if event.kind == "stop worker":
            pid = pick(parents, event.target)
            both = [pid, *(child for child in children if parent(child) == pid)]
            send(signal.SIGSTOP, *both)
            return f"{both} for {event.seconds:.1f} s", functools.partial(send, signal.SIGCONT, *both)
        if event.kind == "fill disk":
            if not os.path.ismount(self.store):
                raise IndexError("the database has no file system of its own")
            return f"for {event.seconds:.1f} s", fill(self.store)
        return self.stage.do(event, killable)

    def take_back(self, entry: tuple[float, str, Callable[[], object]]) -> None:
        self.undo.remove(entry)
        _, kind, undo = entry
        undo()
        self.note(f"{kind} is over")

    def note(self, text: str) -> None:
        self.done.append(f"{time.monotonic() - self.began:6.2f} s  {text}")

    # what must have come of it

    def see_that_nothing_is_left(self) -> None:
        end = time.monotonic() + 60
        while left := self.stage.processes() or self.stage.what_else_is_left():
            if time.monotonic() > end:
                raise Failed(f"60 s after the end there is still: {left}")
            time.sleep(0.2)

    def check(self, lasted: float) -> str:
        """Compare what was found with what must be. Return a row of the summary."""
        results, errors = pickle.loads(self.found.read_bytes())
        wrong = self.wrong(results, errors)
        if wrong:
            raise Failed(f"{len(wrong)} outcomes are wrong, such as {wrong[:5]}")
        with Storage(self.dbfile) as storage:
            progress = storage.progress(self.request_id)
            recorded = recorded_attempts(storage, self.request_id)
            exact = "attempts" in columns(storage, "outcome")
        if (progress.tasks, progress.done + progress.failed, progress.failed) != (self.tasks, self.tasks, len(errors)):
            raise Failed(f"the store says {progress}, and {len(errors)} errors were found")
        lines = [line for file in self.stage.ran.iterdir() for line in file.read_text().splitlines()]
        runs = Counter(int(line.split()[0]) + 1 for line in lines)
        too_many = {index: (count, recorded[index]) for index, count in runs.items() if count > recorded[index]}
        if too_many and exact:
            told = {
                index: [line for line in lines if int(line.split()[0]) + 1 == index] for index in list(too_many)[:5]
            }
            with Storage(self.dbfile) as storage:
                history = [each[:5] for each, _ in storage.attempts(self.request_id) if each.task in told]
            raise Failed(
                f"{len(too_many)} tasks ran more often than recorded (runs, attempts): {some(too_many)}\n"
                f"they said (task, attempt, process): {told}\nthe history: {history}"
            )
        killed = {
            args[0] + 1 for args, error in errors if "signal 9" in error or "was lost" in error
        }  # perhaps before its first line
        never = {index for index in range(1, self.tasks + 1) if index not in runs} - killed
        if never:
            raise Failed(f"{len(never)} tasks have an outcome and were never run: {sorted(never)[:5]}")
        log = log_file(self.dbfile).read_text(errors="replace")
        if "Traceback" in log:
            raise Failed(f"the server's log has a traceback:\n{log[log.index('Traceback') - 500 :][:4000]}")
        again = sum(runs.values()) - self.tasks
        row = [self.seed, self.stage.name, f"{lasted:.0f} s", self.tasks, len(errors), again, max(recorded.values())]
        return "| " + " | ".join([*map(str, row), *(str(self.counts[kind]) for kind in ALL_KINDS)]) + " |"

    def wrong(self, results: list[Any], errors: list[tuple[Any, str]]) -> list[Any]:
        """The tasks with another outcome than theirs, or with two or none."""
        said = Counter(args[0] for args, _ in errors)
        texts = {args[0]: error for args, error in errors}
        wrong: list[Any] = [(index, f"{count} errors") for index, count in said.items() if count > 1]
        if [args[0] for args, _ in results] != list(range(self.tasks)):
            wrong.append("the results are not those of the tasks, in order")
        wrong += [
            (index, fate(index, self.seed), value, texts.get(index))
            for (index, *_), value in results
            if not is_right(index, self.seed, value, texts.get(index))
        ]
        # A task that we kill is run again; but one that fails each time by itself may have been in its last attempt.
        killed = [entry for entry in wrong if is_ours(entry[-1], "killed by signal 9")]
        excused = [entry for entry in killed if not (RETRIES and entry[1][0] == "return")][: self.counts["kill child"]]
        lost = [] if RETRIES else [entry for entry in wrong if is_ours(entry[-1], "its worker was lost")]
        return [entry for entry in wrong if entry not in excused and entry not in lost]

    # what to say when it has not

    def diagnosis(self) -> str:
        """What was planned and done, and what each process does."""
        lines = [f"seed {self.seed} on {self.stage.name}, {self.tasks} tasks", "planned:", *map(str, self.events)]
        lines += ["done:", *self.done, "processes:"]
        for pid, line in sorted(self.stage.processes().items()):
            lines.append(f"{pid} (of {parent(pid)}) {what_it_does(pid)}: {' '.join(line)[:200]}")
        with contextlib.suppress(SheepdogError, AttributeError), Storage(self.dbfile) as storage:
            lines.append(f"progress: {storage.progress(self.request_id)!r}")
            lines.append(f"pending: {list(storage.pending(self.request_id))[:20]}")
            lines.append(f"request: {storage.get_request(self.request_id)!r}"[:3000])
        logs = [log_file(self.dbfile), self.client_errors, *self.logs()]
        for file in logs:
            if file.exists():
                lines += [f"end of {file}:", *file.read_text(errors="replace").splitlines()[-40:]]
        lines += ["in the queue:", self.stage.what_else_is_left()]
        return "\n".join(lines)

    def logs(self) -> list[Path]:
        """What the workers wrote."""
        home = self.stage.ran.parent / "home" if self.stage.name == "local" else self.stage.ran.parent
        return sorted([*home.glob(".sheepdog/*/worker.*.log"), *home.glob(".sheepdog/*/*.[oe][0-9]*")])

    def clear_up(self) -> None:
        """End what is left of a round that failed."""
        while self.undo:
            self.take_back(self.undo[0])
        end = time.monotonic() + 10
        while (left := self.stage.processes()) and time.monotonic() < end:
            send(signal.SIGKILL, *left)
            time.sleep(0.1)
        if self.client is not None:
            self.client.kill()
            self.client.wait()


def recorded_attempts(storage: Storage, request_id: int) -> dict[int, int]:
    """How many attempts of each task the store knows of: task -> number."""
    column = "attempts" if "attempts" in columns(storage, "outcome") else "attempt"
    first = request_id << 32
    statement = f"SELECT id - ?, {column} FROM outcome WHERE id BETWEEN ? AND ?"
    return dict(storage.db.execute(statement, (first, first, first + (1 << 32) - 1)))


def columns(storage: Storage, table: str) -> list[str]:
    return [row[1] for row in storage.db.execute(f"PRAGMA table_info({table})")]


def fill(directory: Path) -> Callable[[], object]:
    """Leave no room in a file system; return what frees it."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return functools.partial(filler.unlink, missing_ok=True)


def what_it_does(pid: int) -> str:
    """The state of a process, and where in the kernel it waits."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return f"{state} in {Path(f'/proc/{pid}/wchan').read_text() or '?'}"
    except OSError as error:
        return str(error)


def some(of: dict[Any, Any]) -> dict[Any, Any]:
    return dict(list(of.items())[:5])


# --- by hand


def main() -> int:
    if sys.argv[1:2] == ["begin"]:
        return begin(*sys.argv[2:])
    if sys.argv[1:2] == ["wait"]:
        return wait(*sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--minutes", type=float, help="rounds for so long, each with another seed")
    parser.add_argument("--seed", type=int, help="of the first round")
    parser.add_argument("--cluster", action="store_true", help="on the test cluster only")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which a round has failed")
    parser.add_argument("--verbose", action="store_true", help="say what was done, also when all went well")
    parser.add_argument("--mounted", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.seed is None:
        words.seed = random.SystemRandom().randrange(1_000_000)
    return rounds(words) if words.minutes else one(words)


def rounds(words: argparse.Namespace) -> int:
    """Play rounds until the time is over. Each is a process of its own, and prints its row."""
    print_head()
    end = time.monotonic() + 60 * words.minutes
    failed: list[str] = []
    number = 0
    while time.monotonic() < end:
        cluster = words.cluster or number % 2 == 1
        options = [f"--seed={words.seed + number}", f"--tasks={words.tasks}", f"--events={words.events}"]
        options += [f"--limit={words.limit}", *["--cluster"] * cluster]
        if subprocess.run([sys.executable, "-m", "tests.chaos", *options], cwd=ROOT).returncode:
            failed.append(" ".join(options))
        number += 1
    print(f"\n{number} rounds, {len(failed)} failed", *failed, sep="\n", flush=True)
    return len(failed)


def one(words: argparse.Namespace) -> int:
    """Play one round. With root, in a mount namespace of its own, which ends with it."""
    if not words.mounted and may_mount():
        command = [*PRIVATELY, sys.executable, "-m", "tests.chaos", *sys.argv[1:], f"--seed={words.seed}", "--mounted"]
        os.execvp(command[0], command)
    place = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    (place / "store").mkdir()
    try:
        with contextlib.ExitStack() as stack:
            if words.mounted:  # before the cluster, whose hosts then see it
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "chaos", place / "store"], check=True)
                stack.callback(lambda: subprocess.run(["umount", "--lazy", place / "store"]))
            stage: Stage = There(place, stack.enter_context(Cluster())) if words.cluster else Here(place)
            round = Round(stage, place, words.seed, words.tasks, words.events, words.limit)
            try:
                row = round.run()
            except Failed as error:
                print(error, file=sys.stderr, flush=True)
                return 1
            print(row, flush=True)
            if words.verbose:
                print(*round.done, sep="\n")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


def may_mount() -> bool:
    """Whether a mount namespace can be had, in which the database gets a file system of its own."""
    with contextlib.suppress(OSError):
        return subprocess.run([*PRIVATELY, "true"], capture_output=True).returncode == 0
    return False


def print_head() -> None:
    names = ["seed", "where", "lasted", "tasks", "errors", "run again", "most attempts", *ALL_KINDS]
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names), flush=True)


def begin(config: str, tasks: str, seed: str, ran: str) -> int:
    """Be the process that makes the request."""
    print(sheepdog.map_async(task, ((index, int(seed), ran) for index in range(int(tasks))), json.loads(config)))
    return 0


def wait(request_id: str, dbfile: str, found: str) -> int:
    """Be the client: wait, and leave what was found in a file."""
    results = sheepdog.get_results(int(request_id), dbfile)
    errors = sheepdog.get_errors(int(request_id), dbfile)
    Path(f"{found}.new").write_bytes(pickle.dumps((results, errors)))
    os.replace(f"{found}.new", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
