"""The worker as a process of its own, and a server that does as the test likes."""

import http.server
import io
import json
import pickle
import re
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sheepdog import client
from sheepdog.client import RESULT
from sheepdog.client.wire.records import outcomes_in
from sheepdog.schedulers.archives import WORKER, archive, cloudpickle_archive, worker_archive
from sheepdog.server.certificate import make_certificate
from sheepdog.values.serialisation import serialise_function
from tests.client.children import arguments, by_value

WAIT_FOR = "import os, time\nwhile not os.path.exists(args[0]): time.sleep(0.005)\n"
"""The source of a task that waits for a file."""


def outcome_of(entry: list[Any], value: Any, output: Any) -> client.Outcome:
    """Return what a header says of an outcome, with its two blobs."""
    task, attempt, kind, seconds, signal, status, peak = entry if len(entry) > 4 else [*entry, 0, None, 0]
    return client.Outcome(task, attempt, kind, seconds, value, output, signal, status, peak)


class FakeServer:
    """Leases tasks, and notes what it is told. What its replies say besides, and whether it replies, can be set."""

    def __init__(self, *tasks: tuple[Any, ...], **settings: Any) -> None:
        self.function: Callable[..., Any] = act
        self.settings = {"heartbeat": 0.5, "max_value": 10**9, **settings}
        self.tasks = {index: arguments(*task) for index, task in enumerate(tasks, 1)}
        self.ready = list(self.tasks)
        self.leased: list[int] = []
        self.dropped: list[int] = []
        self.calls: list[dict[str, Any]] = []  # the headers of exchanges
        self.times: list[float] = []
        self.outcomes: dict[int, client.Outcome] = {}
        self.messages: list[client.Message] = []
        self.checkpoints: dict[int, bytes] = {}  # for tasks that are leased
        self.stop_when_done = True
        self.extra: dict[str, Any] = {}  # in the next reply
        self.status = (200, {})  # type: tuple[int, dict[str, str]]
        self.answers = threading.Event()
        self.answers.set()
        self.waiting = 0  # calls that have no answer
        self.slowness = 0.0  # seconds that each answer takes
        self.most = 1 << 20  # tasks in a reply
        self.certificate, key = make_certificate()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.certificate + key)
            file.flush()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file.name)
        self.context = context
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_port}"

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = io.BytesIO(self.rfile.read(int(self.headers["Content-Length"])))
                header = client.unpack(body)
                if not outer.answers.is_set():
                    outer.waiting += 1
                    outer.answers.wait(60)
                    self.close_connection = True
                    return
                status, headers = outer.status
                reply = b"no" if status != 200 else outer.answer(self.path, header, body)
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(reply))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(reply)
                if self.path.endswith("exchange"):
                    outer.calls.append(header)
                    outer.times.append(time.monotonic())

            def log_message(self, *args: Any) -> None: ...

        return Handler

    def answer(self, path: str, header: dict[str, Any], body: io.BytesIO) -> bytes:
        if path.endswith("join"):
            parts = serialise_function(self.function, None, by_value)
            return client.pack(self.settings, [len(part) for part in parts]) + b"".join(parts)
        blobs = [body.read(length) for length in header["blobs"]]
        records = [blobs.pop() for _ in range(header.get("records", 0))]
        said, values = header.get("messages", []), blobs[2 * len(header["outcomes"]) :]
        self.messages += [client.Message(*[*each, value]) for each, value in zip(said, values, strict=True)]
        pairs = zip(blobs[: -len(said) or None : 2], blobs[1 : -len(said) or None : 2], strict=True)
        outcomes = [outcome_of(entry, *pair) for entry, pair in zip(header["outcomes"], pairs, strict=True)]
        for outcome in outcomes + [each for data in records for each in outcomes_in(data)]:
            assert outcome.task not in self.outcomes, f"{outcome.task} was reported twice"
            self.outcomes[outcome.task] = outcome
        held = [index for first, last, _ in header["holding"] for index in range(first, last + 1)]
        gone = {*held, *self.outcomes, *self.dropped}
        self.ready += [index for index in self.leased if index not in gone]
        time.sleep(self.slowness)
        want = min(header["want"], self.most)
        taken, self.ready = self.ready[:want], self.ready[want:]
        self.leased = held + taken
        reply: dict[str, Any] = {"stored": len(header["outcomes"]), "tasks": [[index, 1] for index in taken]}
        if self.stop_when_done and len(self.outcomes) == len(self.tasks):
            reply["stop"] = True
        reply.update(self.extra, **({} if taken else {"wait": 0.1}))
        self.dropped += self.extra.get("drop", [])
        self.extra = {}
        found = [self.tasks[index] for index in taken]
        if again := [index for index in taken if index in self.checkpoints]:
            reply["checkpoints"] = again
            found += [self.checkpoints[index] for index in again]
        return client.pack(reply, [len(blob) for blob in found]) + b"".join(found)

    def results(self) -> list[Any]:
        """Return the results; for what is none, its kind and its first line."""
        found: list[Any] = []
        for _, outcome in sorted(self.outcomes.items()):
            if outcome.kind == RESULT:
                found.append(pickle.loads(outcome.value))
            else:
                found.append((outcome.kind, outcome.value.partition(b"\0")[0].decode().splitlines()[0]))
        return found

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def act(source: str, *args: Any) -> Any:
    """What the workers of these tests do with a task: run its source."""
    names: dict[str, Any] = {"args": args}
    exec(source, names)
    return names.get("result")


def worker_with(limits: dict[str, float]) -> bytes:
    """Return the worker's archive, with some limits changed."""
    with zipfile.ZipFile(io.BytesIO(worker_archive())) as made:
        files = {name: made.read(name) for name in made.namelist()}
    file = f"{WORKER}/wire/limits.py"
    for name, value in limits.items():
        files[file], count = re.subn(rb"(?m)^%s = [^#\n]+" % name.encode(), f"{name} = {value}  ".encode(), files[file])
        assert count == 1, name
        files.pop(f"{file}c", None)
    return archive(files)


class Shepherd:
    """Makes servers and workers, and ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: list[FakeServer] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        directory.mkdir(mode=0o700)
        (directory / "cloudpickle.zip").write_bytes(cloudpickle_archive())

    def serve(self, *tasks: tuple[Any, ...], **settings: Any) -> FakeServer:
        self.servers.append(FakeServer(*tasks, **settings))
        return self.servers[-1]

    def secret(self, server: FakeServer) -> dict[str, Any]:
        """Return what secret.json says of a server."""
        secret = {"request": 1, "token": "t", "urls": [server.url], "certificate": server.certificate}
        return {"patience": 100.0, "array": 3, **secret}

    def tell(self, server: FakeServer, **secret: Any) -> None:
        """Write secret.json."""
        (self.directory / "secret.json").write_text(json.dumps({**self.secret(server), **secret}))

    def work(
        self,
        server: FakeServer,
        constants: dict[str, float] | None = None,
        first: str = "",
        python: str | Path = sys.executable,
        flags: str = "-I",
        **secret: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a worker, with some of its limits as the test needs them."""
        (self.directory / "client.pyz").write_bytes(worker_with(constants or {}))
        self.tell(server, **secret)
        command = f'{first} exec "$0" {flags} "$1/client.pyz" "$1" 7 >>"$1/log" 2>&1'
        self.workers.append(subprocess.Popen(["/bin/sh", "-c", command, python, self.directory]))
        return self.workers[-1]

    def run(self, *tasks: tuple[Any, ...], constants: dict[str, float] | None = None, **settings: Any) -> list[Any]:
        """Have a worker do these tasks; return what came of each."""
        server = self.serve(*tasks, **settings)
        worker = self.work(server, constants)
        assert worker.wait(60) == 0, self.log()
        return server.results()

    def log(self) -> str:
        log = self.directory / "log"
        return log.read_text() if log.exists() else ""

    def spooled(self) -> dict[int, client.Outcome]:
        """Return the outcomes in the spool; what tasks said goes into messages."""
        found = {}
        self.messages: list[client.Message] = []
        for path in sorted((self.directory / "spool").iterdir(), key=lambda path: int(path.name.rpartition("-")[2])):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with path.open("rb") as file:
                header = client.unpack(file)
                assert (header["want"], header["holding"], header["array"], header["element"]) == (0, [], 3, "7")
                assert path.name.startswith(header["worker"] + "-")
                assert header["call"] > 1
                for entry in header["outcomes"]:
                    value, output = (client.read_blob(file, header["blobs"].pop(0)) for _ in range(2))
                    outcome = outcome_of(entry, value, output)
                    found[outcome.task] = outcome
                for said in header.get("messages", []):
                    self.messages.append(client.Message(*[*said, client.read_blob(file, header["blobs"].pop(0))]))
                for _ in range(header.get("records", 0)):
                    data = client.read_blob(file, header["blobs"].pop(0))
                    found.update((outcome.task, outcome) for outcome in outcomes_in(data))
                assert not file.read()
        return found

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        for server in self.servers:
            server.close()
