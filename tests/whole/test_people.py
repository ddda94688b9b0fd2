"""Other users of this machine: the files that they give, and those that they lay where one's own will be."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import fault
from tests.people import AS_ROOT, Person, people
from tests.waiting import until

pytestmark = [AS_ROOT, pytest.mark.slow]

# What a giver stores: a request that is submitted, one that has ended, and one that could be retried. Each names a
# program of the giver's, and a directory of the receiver's.
GIVE = """
import json, os, sys
from sheepdog.config import Config
from sheepdog.config.options import Options
from sheepdog.storage import Storage
from sheepdog.values.model import ArrayJob, Kind
from sheepdog.values.serialisation import form, serialise_arguments

gift, trap, precious = sys.argv[1:]
options = Options(Config(scheduler="local", shell=trap, ssh_dir=os.path.dirname(precious)), "/").stored()
with Storage(gift) as storage:
    for number in range(3):
        made = storage.new_request(b"f", b"", serialise_arguments([(1,), (2,)]), form=form(), options=options)
        array = storage.new_array(made, ArrayJob(0, os.path.basename(precious), precious, 1))
        storage.set_submitted(made, ArrayJob(array.number, array.name, precious, 1, job="1"))
    storage.store_error(2, 1, "no")
    storage.store_error(2, 2, "no")
    storage.end_pending(3, Kind.CANCELLED, "cancelled")
os.chmod(gift, 0o644)
"""

# What a receiver tries. It says what came of it, warnings too.
TAKE = """
import sys, time, warnings
import sheepdog
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_, **__: print("WARNING", message)

def attempt(what, *arguments, **options):
    try:
        print(what.__name__, what(*arguments, **options))
    except sheepdog.SheepdogError as error:
        print(what.__name__, type(error).__name__, error)

gift = sys.argv[1]
for trusted in False, None:
    for request in 1, 2, 3:
        attempt(sheepdog.get_results, request, gift, trusted=trusted)
        attempt(sheepdog.get_errors, request, gift, trusted=trusted)
        attempt(lambda *a, **k: list(sheepdog.follow_reports(*a, **k)), request, gift, trusted=trusted)
for request in 1, 2, 3:
    attempt(sheepdog.cancel, request, gift)
    attempt(sheepdog.retry, request, gift)
attempt(sheepdog.server.get_server, dbfile=gift)
print("own", sheepdog.map(abs, [(-1,)], {"dbfile": gift, "scheduler": "local", "workers": 1}))
attempt(sheepdog.cancel, 1, gift)
server = sheepdog.Server(dbfile=gift)
while server.running:  # it clears up, and ends
    time.sleep(0.1)
attempt(sheepdog.remove, 2, gift)
"""


@pytest.fixture
def two(servers: None) -> Iterator[list[Person]]:
    with people() as two:
        yield two


def run(person: Person, code: str, *arguments: object, **environ: str) -> str:
    done = person.run(code, *arguments, **environ)
    said = re.sub(r"(?m)^sheepdog: request \d+, in .*\n", "", done.stderr)
    assert (done.returncode, said) == (0, "")
    return done.stdout


def trap_of(giver: Person) -> tuple[Path, Path]:
    """Return a program of theirs, and the file that says that it was run."""
    sprung = giver.place / "sprung"
    trap = giver.place / "trap"
    trap.write_text(f"#!/bin/sh\necho sprung >>{sprung}\n")
    trap.chmod(0o755)
    return trap, sprung


def precious_of(person: Person) -> Path:
    """Return a directory of theirs, which looks as one of an array job."""
    directory = person.home / "work" / "sheepdog_001_0123abcd"
    directory.mkdir(parents=True)
    for name in ("thesis", "secret.json"):
        (directory / name).write_text("mine")
    (directory / "array_job").write_text(f"{directory.name}\n")
    for path in (directory.parent, directory, *directory.iterdir()):
        os.chown(path, person.uid, person.uid)
    return directory


def forge(forger: Person, gift: Path, path: Path) -> None:
    """Let a gift say that it is the very file at that path, in all that can be seen from outside."""
    code = """
import json, os, sys
from dataclasses import replace
from sheepdog.storage import Storage
from sheepdog.storage.identity import Identity
with Storage(sys.argv[1]) as storage:
    made = storage.identity
    device, inode = map(int, sys.argv[3:])
    storage.set_settings(identity=made._replace(path=sys.argv[2], device=device, inode=inode).stored())
"""
    found = path.stat()
    run(forger, code, gift, path, found.st_dev, found.st_ino)


@fault(
    "other people",
    "a database that another user made is read",
    promise="nothing in it is run, submitted or removed, and it says so; what one does in it oneself goes well",
)
@pytest.mark.parametrize("forged", ["as it is", "forged", "without an identity", "with a trigger"])
def test_a_gift_is_data(two: list[Person], forged: str) -> None:
    receiver, giver = two
    trap, sprung = trap_of(giver)
    precious = precious_of(receiver)
    given, gift = giver.home / "gift.sqlite", receiver.home / "gift.sqlite"
    run(giver, GIVE, given, trap, precious)
    gift.touch()
    os.chown(gift, receiver.uid, receiver.uid)
    if forged == "forged":
        forge(giver, given, gift)
    elif forged == "without an identity":
        run(
            giver,
            "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('DELETE FROM setting'); d.commit()",
            given,
        )
    elif forged == "with a trigger":  # new requests hand their home on
        trigger = "CREATE TRIGGER t AFTER INSERT ON request BEGIN UPDATE request SET home = NEW.home; END"
        run(giver, f"import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute({trigger!r}); d.commit()", given)
    gift.write_bytes(given.read_bytes())
    if forged == "with a trigger":
        done = receiver.run(TAKE, gift)
        assert "is not as this Sheepdog makes its databases" in done.stdout
        assert "own" not in done.stdout
        return
    said = run(receiver, TAKE, gift).splitlines()
    assert sum("nothing of it is run, submitted, cancelled or cleared up" in line for line in said) >= 11
    assert "get_results [((1,), None), ((2,), None)]" in said
    assert [line for line in said if line.startswith("own")] == ["own [1]"]
    assert said[-1] == "remove None"
    assert not sprung.exists()
    assert {file.name: file.read_text() for file in precious.iterdir() if file.name != "array_job"} == {
        "thesis": "mine",
        "secret.json": "mine",
    }
    until(lambda: not receiver.processes("sheepdog serve"), "the server of their own request has ended")


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


READ = """
import sys, sheepdog
print(sheepdog.get_results(1, sys.argv[1]), sheepdog.get_errors(1, sys.argv[1]))
try:
    sheepdog.map(abs, [(-1,)], {"dbfile": sys.argv[1], "scheduler": "local", "workers": 1})
except sheepdog.SheepdogError as error:
    print(error)
"""


@fault(
    "other people", "a copy in a snapshot, where nothing can be written", promise="it is read; a map there is refused"
)
@pytest.mark.parametrize("modes", [(0o400, 0o500), (0o600, 0o500), (0o400, 0o700)])
def test_a_copy_where_nothing_can_be_written(two: list[Person], modes: tuple[int, int]) -> None:
    owner = two[0]
    run(owner, MAP, owner.home / "db")
    snapshot = owner.home / "snapshot"
    run(owner, "import os, shutil, sys; os.mkdir('snapshot'); shutil.copy('db', 'snapshot')")
    for path, mode in zip((snapshot / "db", snapshot), modes, strict=True):
        path.chmod(mode)
    said = run(owner, READ, snapshot / "db").splitlines()
    assert said[0] == "[((-1,), 1)] []"
    assert "cannot be written" in said[1]
    assert os.listdir(snapshot) == ["db"]
    snapshot.chmod(0o700)


WAKE = """
import json, sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    [[options]] = db.execute("SELECT options FROM request")
    options = json.dumps({**json.loads(options), "shell": sys.argv[2]})
    db.execute("UPDATE request SET state = 1, done = 0, options = ?", [options])
    db.execute("DELETE FROM outcome")
    db.execute("UPDATE array_job SET ended = NULL")
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
"""


@fault(
    "other people",
    "one's own database is changed in a copy that another user has, and comes home over the file",
    promise="what they have woken up is not run",
)
def test_what_comes_home_is_data(two: list[Person]) -> None:
    owner, other = two
    trap, sprung = trap_of(other)
    run(owner, MAP, owner.home / "db")
    run(owner, "import sheepdog; sheepdog.Server(dbfile='db').stop()")
    gift = other.home / "gift"
    gift.write_bytes((owner.home / "db").read_bytes())
    os.chown(gift, other.uid, other.uid)
    run(other, WAKE, gift, trap)
    assert str(trap).encode() in gift.read_bytes()
    (owner.home / "db").write_bytes(gift.read_bytes())
    assert "[1]" in run(owner, MAP, owner.home / "db")
    until(lambda: not owner.processes("sheepdog serve"), "the server of their own request has ended")
    assert not sprung.exists()
