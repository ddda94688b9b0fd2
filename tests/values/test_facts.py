"""Facts: which kinds of event there are, and that they are all told."""

import pytest

from sheepdog.values.facts import Event, What, WorkerFacts
from tests.local import ROOT


@pytest.mark.parametrize("what", What)
def test_each_kind_of_event_is_told_by_some_room(what: What) -> None:
    source = ROOT / "src/sheepdog"
    rooms = [path for path in source.rglob("*.py") if path != source / "values/facts.py"]
    assert any(f"What.{what.name}" in path.read_text() for path in rooms), "nothing tells it"


def test_kinds_are_words_for_people() -> None:
    assert len({*What}) == len(What)
    assert all(what == what.lower() and "_" not in what for what in What)
    assert f"{What.LOST}" == "worker lost"


def test_facts_are_not_changed() -> None:
    worker = WorkerFacts("w", 1, "2", "node1", "3.11.7", 1.0, 2.0)
    with pytest.raises(AttributeError):
        worker.task = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Event(1.0, What.LOST).text = "?"  # type: ignore[misc]
