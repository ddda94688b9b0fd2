"""Requests: made, changed step by step, and removed with everything of them."""

from __future__ import annotations

import array
import itertools
import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from ..client import IN_MEMORY
from ..errors import DamagedRequest, NotOwnRequest, RequestNotFound
from ..printable import printable
from ..values.files import WANTED, Function, Needed, undisturbed
from ..values.model import REQUEST_STATES, Progress, Request, RequestState, StoredBlob, after, before
from .directories import Directories
from .files import Files
from .own import digest_of, is_marked, mark
from .schema import SPAN
from .workers import Workers

OVERHEAD = 64  # bytes of memory for an object, about
OPEN = f"state IN ({', '.join(str(int(state)) for state in before(REQUEST_STATES, 'end'))})"
SIGNED = f"home, {OPEN}, token, options"  # the signature, and what it signs: nobody else can let run what has ended
NEXT = (
    "SELECT 1 + max(ifnull((SELECT max(id) FROM request), 0),"
    " ifnull((SELECT max(seq) FROM sqlite_sequence WHERE name = 'request'), 0))"
)


Said = dict[str, Any] | Callable[[], dict[str, Any]] | None


class Unended(NamedTuple):
    """What other programs change of a request that has not ended."""

    token: str
    state: RequestState
    tasks: int
    cancelled: int
    open: bool


class Requests(Workers, Files, Directories):
    """A request's own row, and the tasks that it is made with."""

    def new_request(
        self,
        serialised_function: bytes,
        serialised_namespace: bytes,
        args_list: Iterable[bytes],
        *,
        name: str = "",
        form: Said = None,
        options: Said = None,
        open: bool = False,
        needs: Callable[[], Needed] = Needed,
    ) -> int:
        """Store a request with its tasks, one for each item of args_list, and return its id.

        needs is asked when the items have been drawn; form and options, too, where they depend on them.

        If open, more may be added until close_request. The items are drawn first, into a temporary file if they are
        many: however long they take, the database is not locked meanwhile, and if one fails nothing has been stored.
        """
        with tempfile.TemporaryFile() as spool:
            waiting: list[bytes] = []
            size = spilled = parts = 0
            for args in args_list:
                waiting.append(args)
                size += len(args) + OVERHEAD
                if size > IN_MEMORY:
                    spool.write(array.array("Q", [len(waiting), *map(len, waiting)]).tobytes())
                    spool.writelines(waiting)
                    parts += 1
                    spilled += len(waiting)
                    waiting, size = [], 0
            count = spilled + len(waiting)
            if count >= SPAN:
                raise ValueError(f"a request of {count} tasks is too large; split it")
            spool.seek(0)

            def make() -> Needed:
                needed = needs()
                return needed._replace(files=self.made(needed.files))

            needed = undisturbed(make)
            serialised_function = needed.before + serialised_function
            form_said, options_said = (json.dumps((say() if callable(say) else say) or {}) for say in (form, options))
            with self.transaction():
                self._settle()
                [(request_id,)] = self._query(NEXT)
                token = new_token()
                runs = bool(count or open)
                function = digest_of([form_said.encode()], [serialised_function], [serialised_namespace])
                self.db.execute(
                    "INSERT INTO request"
                    " (id, token, function, namespace, tasks, name, form, options, created, ended, state, open, home)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        request_id,
                        token,
                        serialised_function,
                        serialised_namespace,
                        count,
                        name,
                        form_said,
                        options_said,
                        time.time(),
                        None if runs else time.time(),
                        RequestState.NEW if runs else RequestState.CLOSED,
                        open,
                        mark(self.signer(), function, request_id, runs, token, options_said),
                    ),
                )
                first = request_id * SPAN + 1
                from_spool = (item for _ in range(parts) for item in read_part(spool))
                items = itertools.chain(from_spool, waiting)
                self.db.executemany("INSERT INTO task VALUES (?, ?)", enumerate(items, first))
                self.add_files(request_id, needed.files)
        return int(request_id)

    def add_tasks(self, request_id: int, args_list: Sequence[bytes]) -> int:
        """Add tasks to an open request. Return the index of the first of them.

        Raises RequestNotFound if it has been closed, or is no more.
        """
        with self.transaction():
            tasks, open, note = self._one(request_id, "tasks, open, note")
            if not open:
                raise RequestNotFound(f"request {request_id} takes no more tasks: {note or 'it has been closed'}")
            first = request_id * SPAN + tasks + 1
            self.db.executemany("INSERT INTO task VALUES (?, ?)", enumerate(args_list, first))
            self.db.execute("UPDATE request SET tasks = tasks + ? WHERE id = ?", (len(args_list), request_id))
        return int(tasks) + 1

    def close_request(self, request_id: int) -> None:
        """Let an open request take no more tasks: it ends with the last that it has."""
        with self.transaction():
            self.db.execute("UPDATE request SET open = 0 WHERE id = ?", (request_id,))
            self._end_if_finished(request_id)

    def remove_request(self, request_id: int, cleared: bool = True) -> None:
        """Remove a request and everything of it. Unless it is cleared, its directories are still to go."""
        with self.transaction():
            if not cleared:
                self.leave_directories(request_id, True)
            self._forget_directories(request_id)
            for table in ("task", "outcome", "measure", "attempt", "checkpoint"):
                self.db.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", self._rows(request_id))  # noqa: S608
            self.db.execute("DELETE FROM report WHERE task BETWEEN ? AND ?", self._rows(request_id))
            self.db.execute("DELETE FROM ended_range WHERE first BETWEEN ? AND ?", self._rows(request_id))
            self._remove_files(request_id)
            for table in ("array_job", "worker", "event"):
                self.db.execute(f"DELETE FROM {table} WHERE request = ?", (request_id,))  # noqa: S608
            self.db.execute("DELETE FROM request WHERE id = ?", (request_id,))

    def give_back(self) -> None:
        """Give room back to the disk, if that is much, and nobody needs the file meanwhile."""
        if not self.requests(RequestState.NEW, RequestState.SUBMITTED):
            self.shrink()

    def get_request(self, request_id: int) -> Request:
        """Return a request without its function and tasks."""
        names = Request._fields
        row = dict(zip(names, self._one(request_id, ", ".join(names)), strict=True))
        try:
            said = {key: dict(json.loads(row[key])) for key in ("form", "options")}
            flags = {key: bool(row[key]) for key in ("gave_up", "open")}
            return Request(**{**row, **said, **flags, "state": RequestState(row["state"])})
        except (ValueError, TypeError) as error:
            raise DamagedRequest(
                f"what {self.dbfile} says of request {request_id} cannot be read ({error}): make the request again"
            ) from error

    def requests(self, *states: RequestState) -> list[int]:
        """Return the ids of the requests in these states that were made in this file."""
        wanted = ", ".join(str(int(state)) for state in states)
        query = f"SELECT id, {SIGNED} FROM request WHERE state IN ({wanted}) ORDER BY id"  # noqa: S608
        sign = self.signer()
        return [number for number, *signed in self._query(query) if is_marked(sign, number, *signed)]

    def unended(self) -> dict[int, Unended]:
        """Return what is new of the requests that have not ended, and were made in this file, by their ids."""
        sign = self.signer()
        columns = f"id, token, state, tasks, cancelled, open, {SIGNED}"
        query = f"SELECT {columns} FROM request WHERE {OPEN} ORDER BY id"  # noqa: S608
        return {
            number: Unended(token, RequestState(state), tasks, cancelled, bool(open))
            for number, token, state, tasks, cancelled, open, *signed in self._query(query)
            if is_marked(sign, number, *signed)
        }

    def is_made_here(self, request_id: int) -> bool:
        """Tell whether this account made a request in this file, or gave it its options: its function aside."""
        return is_marked(self.signer(), request_id, *self._one(request_id, SIGNED))

    def require_own(self, request_id: int) -> None:
        """Raise NotOwnRequest unless this account made a request and its function, here and in this file."""
        self.get_request(request_id)
        self.require_made_here()
        if not self.is_made_here(request_id):
            raise NotOwnRequest(
                f"request {request_id} is not signed as made by this account in {self.dbfile}: it was made by somebody "
                f"else, in a database of which this is a copy, or by an earlier version; {self._hint}"
            )
        self.require_function(request_id)

    def require_function(self, request_id: int) -> None:
        """Raise NotOwnRequest unless the function of a request is the one that it was signed with."""
        if self._function_digest(request_id) != self._one(request_id, "home")[0].partition(":")[0]:
            raise NotOwnRequest(
                f"the function of request {request_id} is another than it was made with: somebody has changed "
                f"{self.dbfile}; {self._hint}"
            )

    def sign_request(self, request_id: int, again: bool = False) -> None:
        """Sign a request as this account's own; if again, with the function that it was signed with before."""
        before, runs, token, options = self._one(request_id, SIGNED)
        function = before.partition(":")[0] if again else self._function_digest(request_id)
        signed = mark(self.signer(), function, request_id, bool(runs), token, options)
        self.db.execute("UPDATE request SET home = ? WHERE id = ?", (signed, request_id))

    def _function_digest(self, request_id: int) -> str:
        [form] = self._one(request_id, "form")
        blobs = self.function_blobs(request_id)
        return digest_of([form.encode()], *(self.chunks(b) if isinstance(b, StoredBlob) else [b] for b in blobs))

    def take_over(self) -> int:
        """Make a copy, or what another account or machine has made, this account's in this file.

        Return how many requests have not ended; whoever waits for one has them run. If another account made them, what
        their workers know opens nothing any more.
        """
        with self.transaction():
            identity = self.identity
            known = identity is not None and identity.of_this_account
            self._settle(again=True)
            ids = [number for (number,) in self._query("SELECT id FROM request")]
            if not known:
                self.db.executemany("UPDATE request SET token = ? WHERE id = ?", ((new_token(), each) for each in ids))
            else:
                self._take_directories()
            for each in ids:
                self.sign_request(each)
            return len(self.requests(RequestState.NEW, RequestState.SUBMITTED))

    def function_blobs(self, request_id: int) -> list[bytes | StoredBlob]:
        """Return the serialised function and namespace."""
        lengths = self._one(request_id, "length(function), length(namespace)")
        columns = zip(("function", "namespace"), lengths, strict=True)
        return [self._blob("request", column, request_id, length) for column, length in columns]

    def function(self, request_id: int) -> Function:
        """Return the serialised function and namespace, their form, and the list of the installed packages."""
        function, namespace, form = self._one(request_id, "function, namespace, form")
        wanted = {f"{WANTED}{name}": self.file(name).__bytes__ for name in self.wanted_of(request_id)}
        return Function(function, namespace, json.loads(form), wanted)

    def _set_function(self, request_id: int, function: Function) -> None:
        self.db.execute(
            "UPDATE request SET function = ?, namespace = ?, form = ? WHERE id = ?",
            (function.function, function.namespace, json.dumps(function.form), request_id),
        )
        self.forget_files(request_id, self.wanted_of(request_id))
        self.add_files(request_id, function.files)

    def progress(self, request_id: int) -> Progress:
        """Return how far a request is."""
        columns = f"tasks, done, failed, cancelled, note, open, {OPEN}"
        tasks, done, failed, cancelled, note, open, unended = self._one(request_id, columns)
        running, workers, hosts = self._at_work(request_id) if unended else (0, 0, ())
        running = min(running, tasks - done - failed - cancelled)  # that one has ended may be known first
        return Progress(tasks, done, failed, cancelled, note, bool(open), running, workers, hosts)

    def step(self, request_id: int, event: str) -> bool:
        """Let something happen to a request. Return whether it was in a state in which that may happen."""
        sources = ", ".join(str(int(state)) for state in before(REQUEST_STATES, event))
        with self.transaction():
            signed, runs, token, options = self._one(request_id, SIGNED)
            sign = self.signer()
            if event == "end" and runs and is_marked(sign, request_id, signed, runs, token, options):
                signed = mark(sign, signed.partition(":")[0], request_id, False, token, options)
            cursor = self.db.execute(
                f"UPDATE request SET state = ?, home = ? WHERE id = ? AND state IN ({sources})",  # noqa: S608
                (after(REQUEST_STATES, event), signed, request_id),
            )
            if cursor.rowcount > 0 and event == "end":
                self._end_workers(request_id)
            return cursor.rowcount > 0

    def leased(self, request_id: int) -> int:
        """Return the highest index that was ever leased; 0 if none was."""
        return int(self._one(request_id, "leased")[0])

    def set_leased(self, request_id: int, index: int) -> None:
        """Note the highest index that was ever leased: a server that takes over knows that the rest is free."""
        with self.transaction():
            self.db.execute("UPDATE request SET leased = ? WHERE id = ?", (index, request_id))

    def set_gave_up(self, request_id: int) -> None:
        """Note that a request's workers ended before its tasks."""
        with self.transaction():
            self.db.execute("UPDATE request SET gave_up = 1 WHERE id = ?", (request_id,))

    def set_fruitless(self, request_id: int, count: int) -> None:
        """Note how many submissions of workers in a row were of no use."""
        with self.transaction():
            self.db.execute("UPDATE request SET fruitless = ? WHERE id = ?", (count, request_id))

    def set_note(self, request_id: int, note: str) -> None:
        """Note what the user of a request should know while it runs."""
        note = printable(note)
        with self.transaction():
            self.db.execute("UPDATE request SET note = ? WHERE id = ? AND note != ?", (note, request_id, note))

    def _end_if_finished(self, request_id: int) -> None:
        [finished] = self._one(request_id, "done + failed + cancelled >= tasks AND NOT open")
        if finished and self.step(request_id, "end"):
            self.db.execute("UPDATE request SET ended = ? WHERE id = ?", (time.time(), request_id))


def read_part(spool: BinaryIO) -> Iterator[bytes]:
    """Yield items of a file: before them are their number and their lengths."""
    lengths = array.array("Q", spool.read(8))
    lengths = array.array("Q", spool.read(8 * lengths[0]))
    for length in lengths:
        yield spool.read(length)


def new_token() -> str:
    """Return a secret that a request's workers show."""
    return secrets.token_hex(32)
