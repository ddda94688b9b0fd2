"""Other users of this machine: the files that they give, and those that they lay where one's own will be."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import fault
from tests.people import AS_ROOT, Person, people

pytestmark = [AS_ROOT, pytest.mark.slow]


@pytest.fixture
def two(servers: None) -> Iterator[list[Person]]:
    with people() as two:
        yield two


def run(person: Person, code: str, *arguments: object, **environ: str) -> str:
    done = person.run(code, *arguments, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


MAP = """
import sys
import sheepdog
try:
    print(sheepdog.map(abs, [(-1,)], {"dbfile": sys.argv[1], "scheduler": "local", "workers": 1}))
except sheepdog.SheepdogError as error:
    print(error)
"""

LAY = {
    "a link to a file of the victim's": "os.symlink(sys.argv[2], sys.argv[1])",
    "a link to nothing": "os.symlink(sys.argv[2] + 'x', sys.argv[1])",
    "a file that all may write": "open(sys.argv[1], 'w').close(); os.chmod(sys.argv[1], 0o666)",
    "a pipe": "os.mkfifo(sys.argv[1]); os.chmod(sys.argv[1], 0o666)",
    "a directory": "os.mkdir(sys.argv[1])",
}


@fault(
    "other people",
    "another user lays links, pipes or files where the database's own files will be",
    promise="they are refused, with a sentence; nothing is written through them",
)
@pytest.mark.parametrize("lay", LAY)
@pytest.mark.parametrize("suffix", ["", "-server", "-server.log", "-wal", "-shm", "-journal"])
def test_what_others_lay_is_refused(two: list[Person], suffix: str, lay: str) -> None:
    victim, other = two
    precious = victim.home / "precious"
    precious.write_text("precious")
    os.chown(precious, victim.uid, victim.uid)
    place = victim.place / f"sheepdog.sqlite{suffix}"
    run(other, f"import os, sys; {LAY[lay]}", place, precious)
    before = place.lstat()
    said = run(victim, MAP, victim.place / "sheepdog.sqlite")
    assert f"{place} " in said
    assert "[1]" not in said
    assert precious.read_text() == "precious"
    assert not Path(f"{precious}x").exists()
    assert (place.lstat().st_ino, place.lstat().st_mode, place.lstat().st_size) == (
        before.st_ino,
        before.st_mode,
        before.st_size,
    )
    assert victim.processes("sheepdog serve") == []


@fault(
    "other people",
    "another user made the database first, for all to write",
    promise="it is refused: they would read token and key, and what they store would be run",
)
def test_a_database_that_others_made(two: list[Person]) -> None:
    victim, other = two
    shared = victim.place / "sheepdog.sqlite"
    make = "import os, sys; from sheepdog import Storage; Storage(sys.argv[1]).initdb(); os.chmod(sys.argv[1], 0o666)"
    run(other, make, shared)
    before = shared.read_bytes()
    said = run(victim, MAP, shared)
    assert f"{shared} belongs to another user ({other.uid}): choose another place" in said
    assert shared.read_bytes() == before
    os.chown(shared, victim.uid, victim.uid)
    assert "can be changed by others (-rw-rw-rw-)" in run(victim, MAP, shared)
    shared.chmod(0o644)  # a copy that one made, say
    assert run(victim, MAP, shared) == "[1]\n"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o600


def test_root_goes_by_the_owner_of_the_directory(two: list[Person], tmp_path: Path) -> None:
    """A file counts for root that is its own, or that belongs to the owner of the directory it lies in."""
    owner, other = two
    database = owner.home / "sheepdog.sqlite"
    assert run(owner, MAP, database) == "[1]\n"
    read = "import sys; import sheepdog; print(sheepdog.get_results(1, sys.argv[1]))"
    root = Person.__new__(Person)
    root.uid, root.place, root.home = 0, tmp_path, tmp_path
    assert run(root, read, database) == "[((-1,), 1)]\n"
    os.chown(database, other.uid, other.uid)
    assert f"belongs to another user ({other.uid})" in root.run(read, database).stderr


@fault(
    "other people",
    "a file of the user's that is no database",
    promise="it is refused, and neither its content nor its mode is changed",
)
def test_nothing_of_a_file_changes_before_it_is_known(two: list[Person]) -> None:
    person = two[0]
    make = """
import os, sqlite3, sys
open("data.csv", "w").write("a,b\\n" * 1000)
open("empty.csv", "w").close()
with open("header", "wb") as file: file.write(b"SQLite format 3\\0" + b"x" * 4080)
db = sqlite3.connect("plain.sqlite"); db.execute("CREATE TABLE t (x)"); db.close()
for name in "wal.sqlite", "log.sqlite":
    db = sqlite3.connect(name, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    if name == "wal.sqlite": db.execute("PRAGMA user_version = 1"); db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("CREATE TABLE t (x)")
    db.execute("INSERT INTO t VALUES (1)")
    open(name + "~", "wb").write(open(name, "rb").read())
    open(name + "-wal~", "wb").write(open(name + "-wal", "rb").read())
    db.close()
    os.replace(name + "~", name)
    os.replace(name + "-wal~", name + "-wal")
for name in os.listdir("."):
    if os.path.isfile(name): os.chmod(name, 0o644)
"""
    run(person, make)

    def seen() -> dict[str, tuple[bytes, int, int]]:
        files = [path for path in person.home.iterdir() if path.is_file()]
        return {path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) for path in files}

    before = seen()
    ask = """
import sheepdog
for name in "data.csv", "empty.csv", "header", "plain.sqlite", "wal.sqlite", "log.sqlite":
    for what in sheepdog.get_results, sheepdog.get_errors, sheepdog.cancel, sheepdog.retry, sheepdog.remove:
        try: print(what(1, name))
        except sheepdog.SheepdogError as error: print(error)
"""
    said = run(person, ask).splitlines()
    assert len(said) == 30
    assert all("choose another dbfile" in line or "give the dbfile" in line for line in said)
    assert seen() == before
