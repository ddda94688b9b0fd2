"""What a test sees of its requests on this machine: the database, the processes of server and workers, the errors.

All of it is in the directory that the fixture `place` makes.
"""

import contextlib
import os
from pathlib import Path

import sheepdog

DB = "./sheepdog.sqlite"
ROOT = Path(__file__).parent.parent


def pids(words: str) -> list[int]:
    """The processes whose command line has this in it."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if words in os.fsdecode((directory / "cmdline").read_bytes()).replace("\0", " "):
                found.append(int(directory.name))
    return found


def servers_of(place: Path) -> list[int]:
    return pids(f"sheepdog serve {place}/")


def workers_of(place: Path) -> list[int]:
    """The workers' processes: parents, and children of theirs."""
    return pids(f"client.pyz {place}/home/")


def parents_of(place: Path) -> list[int]:
    found = workers_of(place)
    return [pid for pid in found if parent(pid) not in found]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def errors(request_id: int, dbfile: str = DB) -> list[str]:
    """The errors of a request's tasks."""
    return [error for _, error in sheepdog.get_errors(request_id, dbfile)]
