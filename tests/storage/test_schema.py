"""The schema: its steps stay as they are, and lead a database of any version to the newest."""

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.client import CHECKPOINT, REPORT, Message
from sheepdog.errors import StorageError
from sheepdog.storage import Storage, schema
from sheepdog.values.model import ArrayJob, Kind, Outcome, Progress, RequestState
from tests.faults import fault
from tests.storage.samples import request_of

SCRIPTS = [
    "26124a78b1c205596d7884ac5a469fba82f4f694a984b266c683038c24d927b1",
    "0017aee9a5eb31bd72c5af7fe452aa81c5d8baa28308dbb64c0e5bb0c9771ec9",
    "e6c4890bd53f98060306d8b9e3ae124e880eea18df0fe5dfdda15ac416fd1a85",
    "fabbc789e6543c31455ccafd3fa2393c2b7c7e456928d6e25c44c4465a2ce06b",
    "87ef7ad6e40f114a56a584e0290c95a33818f72de0e345c8f3a26f577ffc48ec",
    "4eb17970e3ba29f057cef3bfa939e2a0ddb18de1091210d0544671f74289cd19",
    "2e26cff7177974f3c95fd3296fa2a5f27bced4fe64f30e50ea500baecf2eeea1",
]

RAISED = b"ValueError: two\0pickle"


def test_a_script_that_is_out_stays_as_it_is() -> None:
    assert [hashlib.sha256(script.encode()).hexdigest() for script in schema.MIGRATIONS] == SCRIPTS


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript((Path(__file__).parent / "schema_2.sql").read_text())
    db.close()
    return path


@fault(54, "a database of an older version", promise="it is brought up to date, and nothing in it is lost")
def test_everything_in_a_database_of_schema_2_is_there(old: Path) -> None:
    with Storage(old) as storage:
        storage.take_over()
        assert storage.requests(*RequestState) == [1, 2, 3]
        assert storage.get_setting("note") == "of the server"
        first = storage.get_request(1)
        assert (first.name, first.state, first.form) == ("first", RequestState.SUBMITTED, {"python": [3, 11]})
        assert (first.options, first.leased) == ({"retries": 2}, 5)
        assert storage.progress(1) == Progress(6, 2, 1, note="one worker was lost")
        assert storage.get_details(1, 6) == (b"function", b"namespace", b"args 6")
        assert list(storage.outcomes(1, [(1, 6)])) == [
            Outcome(task=1, seconds=2.5, value=b"result 1", output=b"printed", host="node1", attempts=1),
            Outcome(task=2, attempt=2, kind=Kind.RAISED, seconds=0.5, value=RAISED, host="node1", attempts=2),
            Outcome(task=3, attempt=2, seconds=3.5, value=b"large, from a file", host="node2", attempts=2),
        ]
        assert [args for args, _ in storage.errors(1)] == [b"args 2"]
        died = Outcome(task=2, kind=Kind.DIED, seconds=1.5, value=b"died of signal 9", output=b"out", host="node1")
        lost = Outcome(task=3, kind=Kind.LOST, value=b"its worker was lost", host="node2")
        assert list(storage.attempts(1)) == [(died, True), (lost, False)]
        assert [(report.task, report.value) for report in storage.reports(1)] == [(1, b"half"), (1, b"whole")]
        assert storage.checkpointed(1) == {4: 1}
        [one, two] = storage.arrays(1)
        urls = ("https://10.0.0.1:8765",)
        assert one == ArrayJob(1, "sheepdog-1", "/scratch/sheepdog-1", 3, 0, "4711", urls, ended=one.ended)
        assert one.ended is not None
        assert two == ArrayJob(2, "sheepdog-1b", "/scratch/sheepdog-1b", 1, 1)
        assert (storage.workers(1), [*storage.events(1)], storage.files_of(1)) == ([], [], {})
        assert storage.get_request(2).state == RequestState.NEW
        assert [outcome.kind for outcome, _ in storage.attempts(2)] == [Kind.CANCELLED]
        assert storage.add_tasks(3, [b"y"]) == 2


def test_a_database_of_schema_2_goes_on_and_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    with Storage(old) as storage, Storage(tmp_path / "new") as new:
        storage.store_outcomes(1, [Outcome(task=4, kind=Kind.DIED, value=b"died", signal=9, peak=5)])
        assert storage.checkpointed(1) == {4: 1}
        storage.end_pending(1, Kind.CANCELLED, "cancelled")
        assert storage.retry(1, {}, True) == 4
        assert [outcome.signal for outcome, _ in storage.attempts(1)] == [0, 0, 0, 9, 0, 0]
        query = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
        assert [*storage.db.execute(query)] == [*new.db.execute(query)]
        storage.remove_request(1)
        storage.take_over()
        assert storage.requests(*RequestState) == [2, 3]


HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("INSERT INTO setting VALUES ('from', 'the old server')")
print("held", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
"""


@fault(54, "a server of an older version writes while its database is brought up to date", promise="it is waited for")
def test_bringing_a_database_up_to_date_waits_for_who_writes(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", HOLD, str(old)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == "held\n"
        with monkeypatch.context() as impatient:
            connect = sqlite3.connect
            impatient.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **{**options, "timeout": 0}))
            with pytest.raises(StorageError, match=r"cannot be brought up to date \(database is locked\)"):
                Storage(old).initdb()
        server.stdin.write("\n")
        server.stdin.flush()
        with Storage(old) as storage:
            assert storage.get_setting("from") == "the old server"
            assert storage.workers(1) == []
    assert server.returncode == 0


@fault(54, "a database from before there were reports", promise="it is brought up to date, and its requests go on")
def test_a_database_from_before_there_were_reports(tmp_path: Path) -> None:
    file = tmp_path / "db"
    with sqlite3.connect(file) as old:
        old.executescript(schema.MIGRATIONS[0])
        old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO request (token, function, namespace, tasks, created) VALUES ('t', 'f', '', 2, 0)")
        old.executemany("INSERT INTO task VALUES (?, ?)", [((1 << 32) + index, b"x") for index in (1, 2)])
    with Storage(file) as storage:
        storage.store_result(1, 1, b"r")
        storage.store_messages(1, [Message(2, 1, REPORT, 1, b"a"), Message(2, 1, CHECKPOINT, 1, b"c")])
        assert [each.value for each in storage.reports(1)] == [b"a"]
        assert storage.get_tasks_with_results(1) == [(b"x", b"r"), (b"x", None)]


@fault(54, "a database of a newer version", promise="it is refused with what to do, and left alone")
def test_a_newer_schema_is_refused(storage: Storage) -> None:
    storage.db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    storage.close()
    before = Path(storage.dbfile).read_bytes()
    with pytest.raises(StorageError, match=r"was made by a newer Sheepdog.*upgrade"):
        storage.initdb()
    assert Path(storage.dbfile).read_bytes() == before


@fault(54, "a database of an older version", promise="it is brought up to date, and nothing in it is lost")
def test_an_older_schema_is_brought_up_to_date(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(storage, 2)
    storage.store_result(request, 1, b"r")
    storage.close()
    script = "CREATE TABLE later (x); INSERT INTO later SELECT value FROM outcome"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, script))
    assert storage.db.execute("SELECT x FROM later").fetchall() == [(b"r",)]
    assert storage.get_tasks_with_results(request) == [(b"args 1", b"r"), (b"args 2", None)]


@fault(54, "bringing an older database up to date fails halfway", promise="an error; the database stays as it was")
def test_a_step_to_a_newer_schema_is_all_or_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(storage, 1)
    storage.close()
    script = "CREATE TABLE later (x); INSERT INTO nosuch VALUES (1)"
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, script))
        with pytest.raises(StorageError, match="nosuch"):
            storage.initdb()
    assert storage.get_request(request).tasks == 1
    assert storage.db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (0,)


@fault(16, "a database of another program", promise="it is refused and left alone")
def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "firefox"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE cookies (x)")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StorageError, match="database of another program"):
        Storage(file).initdb()
    assert file.read_bytes() == before


SHAPES = {
    "a column is missing": "ALTER TABLE request DROP COLUMN open",
    "a column has another name": "ALTER TABLE outcome RENAME COLUMN host TO node",
    "there is one more column": "ALTER TABLE task ADD COLUMN more NOT NULL DEFAULT 0",
    "a table is missing": "DROP TABLE report",
    "a table has another name": "ALTER TABLE array_job RENAME TO wave",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON request BEGIN DELETE FROM request; END",
    "a view": "CREATE VIEW v AS SELECT 1",
}


@fault(54, "a database of a development version, whose tables are others", promise="it is refused with what to do")
@pytest.mark.parametrize("shape", SHAPES)
def test_an_unknown_shape_is_refused(storage: Storage, shape: str) -> None:
    request_of(storage, 1)
    storage.db.execute(SHAPES[shape])
    storage.close()
    before = Path(storage.dbfile).read_bytes()
    with pytest.raises(
        StorageError, match=r"db is not as this Sheepdog makes its databases \(schema .*choose another dbfile"
    ):
        storage.initdb()
    assert Path(storage.dbfile).read_bytes() == before


def test_an_older_database_of_an_unknown_shape_is_refused_before_it_is_changed(old: Path) -> None:
    with sqlite3.connect(old) as db:
        db.execute("ALTER TABLE wave DROP COLUMN level")
    db.close()
    before = old.read_bytes()
    with pytest.raises(StorageError, match=r"\(schema 2, but not in wave\)"):
        Storage(old).initdb()
    assert old.read_bytes() == before


def test_what_a_user_adds_beside_our_tables_is_left_alone(storage: Storage) -> None:
    request_of(storage, 1)
    storage.db.execute("CREATE TABLE notes (text)")
    storage.db.execute("CREATE INDEX by_host ON outcome (host)")
    storage.db.execute("ANALYZE")
    storage.close()
    assert storage.count_tasks(1) == 1
