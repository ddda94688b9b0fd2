"""The store as a whole: its rooms are one, and stand in nobody's way."""

import re
from collections import defaultdict
from pathlib import Path

from sheepdog.storage import Storage
from sheepdog.values.model import Kind, Outcome, RequestState
from sheepdog.values.serialisation import form

SOURCE = Path(__file__).parents[2] / "src/sheepdog"


def test_no_room_hides_what_another_does() -> None:
    defined = defaultdict(list)
    for room in Storage.__mro__[:-1]:
        for name in vars(room):
            if not name.startswith("__"):
                defined[name].append(room.__name__)
    assert {name: rooms for name, rooms in defined.items() if len(rooms) > 1} == {}


def test_every_statement_is_in_the_store() -> None:
    statement = re.compile(r"""["'](SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE|PRAGMA) """)
    found = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if statement.search(path.read_text())}
    assert {file.partition("/")[0] for file in found} == {"storage"}


def test_what_is_stored_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    """What each room keeps."""
    with Storage(tmp_path / "db") as storage:
        request = storage.new_request(b"f", b"ns", [b"x", b"y"], form=form(), options={"host": "hive"})
        storage.store_outcomes(request, [Outcome(task=2, kind=Kind.RESULT, value=b"r")])
        storage.set_settings(port=4000)
    with Storage(tmp_path / "db") as storage:
        assert storage.requests(*RequestState) == [request]
        assert list(storage.results(request)) == [(2, b"r")]
        assert storage.get_setting("port") == 4000
        assert storage.get_request(request).options["host"] == "hive"
