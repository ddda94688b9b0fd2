"""Somebody who uses Sheepdog from a host outside of the test cluster."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.cluster import Cluster, Program
from tests.waiting import until

ROOT = Path(__file__).parent.parent
PYTHON = "/opt/python/bin/python3"  # on head and the nodes: the version that runs the tests

PREFACE = f"""
import json, logging, os, subprocess, sys, time
sys.path[:0] = [{str(ROOT / "src")!r}, {str(ROOT)!r}]
os.environ["PYTHONPATH"] = os.pathsep.join([{str(ROOT / "src")!r}, *filter(None, [os.environ.get("PYTHONPATH")])])
logging.basicConfig(level=logging.INFO)
import sheepdog
from sheepdog.storage import Storage
DB = "./sheepdog.sqlite"
C = {{"host": "head", "shell": {PYTHON!r}, "poll_interval": 1}}
def errors(request_id=1): return [error for _, error in sheepdog.get_errors(request_id, DB)]
def show(value): print("shown:" + json.dumps(value), flush=True)
def f(a, b): return a + b
def leave(dbfile):
    from sheepdog.values.model import RequestState
    with Storage(dbfile) as storage:
        opened = storage.requests(RequestState.NEW, RequestState.SUBMITTED)
    for request_id in opened: sheepdog.cancel(request_id, dbfile)
    end = time.monotonic() + 20
    while time.monotonic() < end and sheepdog.Server(dbfile=dbfile).running:
        with Storage(dbfile) as storage:
            if not storage.requests(RequestState.ENDED): break
        time.sleep(0.1)
    sheepdog.Server(dbfile=dbfile).stop()
def nap(i, seconds, mark):
    import time
    time.sleep(seconds)
    with open(mark, "a") as file: file.write(f"{{i}}\\n")
    return i * i
"""

COMMANDS = {
    "gridengine": {"list": "qstat -u '*'", "delete": "qdel -u sheep"},
    "slurm": {"list": "squeue -h -a", "delete": "scancel -u sheep"},
}


class User:
    """Somebody at the outside host, with a directory of their own there."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self.cluster = cluster
        self.place = place
        self.commands = COMMANDS[cluster.scheduler]

    def command(self, code: str) -> list[str]:
        scheduler = f"C['scheduler'] = {self.cluster.scheduler!r}\n" if self.cluster.scheduler != "gridengine" else ""
        return [sys.executable, "-c", PREFACE + scheduler + textwrap.dedent(code)]

    def run(self, code: str, timeout: float = 120) -> Any:
        """Run Python code, and return what it shows last."""
        try:
            done = self.cluster.on("outside", self.command(code), cwd=str(self.place), timeout=timeout)
        except subprocess.TimeoutExpired as error:
            error.add_note(self.story(error))
            raise
        shown = re.findall(r"^shown:(.*)$", done.stdout, re.MULTILINE)
        self.said = done.stderr
        return json.loads(shown[-1]) if shown else None

    def story(self, error: subprocess.TimeoutExpired) -> str:
        """What can be seen of a program that did not end: its words, its servers' logs, and the queue."""
        said = [text.decode(errors="replace") for text in (error.stdout, error.stderr) if text]
        logs = [log.read_text() for log in self.place.glob("*-server.log")]
        return "\n---\n".join([*said, *logs, self.queue()])

    def start(self, code: str, **streams: Any) -> Program:
        return self.cluster.popen("outside", self.command(code), cwd=str(self.place), **streams)

    def sh(self, host: str, script: str, user: str = "sheep") -> str:
        return self.cluster.on(host, ["sh", "-c", script], user=user, check=False).stdout

    def queue(self) -> str:
        return self.sh("head", self.commands["list"])

    def leave(self) -> None:
        """Cancel what runs, stop the servers; leave nothing in the queue, and nothing of what tasks wrote."""
        for lock in self.place.glob("*-server"):
            self.run(f"leave({str(lock).removesuffix('-server')!r})")
        if self.queue():
            self.sh("head", self.commands["delete"])
            until(lambda: not self.queue(), "the queue is empty", timeout=90)
        home = self.cluster.home_of("sheep")
        shutil.rmtree(home / ".sheepdog", ignore_errors=True)
        for name in ("ran", "go"):
            (home / name).unlink(missing_ok=True)
