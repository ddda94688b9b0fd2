"""What a host keeps: listed, bounded, removed; never what is in use."""

import datetime
import os
import time
from pathlib import Path

import pytest

from sheepdog.deployment import LocalHost, kept
from sheepdog.deployment.kept import Kept, bound, look, too_many
from sheepdog.errors import SheepdogError
from tests.bundle.projects import write

A, B, C, D = (letter * 64 for letter in "abcd")
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A ssh_dir with folders, of which two array jobs use some: the request of one of them has ended."""
    made = write(
        tmp_path / "place",
        {
            f"packages/{A}/numpy/__init__.py": "x" * 100_000,
            f"packages/{B}/wool.py": "",
            f"bundles/{C}/bundle.json": "{}",
            f"pythons/{D}/bin/python3": "",
            f"packages/{A}.0123456789abcdef/half": "",
            "packages/notes.txt": "mine",
            f"sheepdog_001_00000001/{kept.USES}": f"packages/{A}\nbundles/{C}\n",
            "sheepdog_001_00000001/secret.json": "{}",
            "sheepdog_002_00000002/secret.json": "{}",
            "sheepdog_002_00000002/sheepdog_002.sh": f"set -- ../pythons/{D}/bin/python3\n",
            f"sheepdog_003_00000003/{kept.USES}": f"packages/{B}\n",
        },
    )
    (made / "packages" / ("e" * 64)).symlink_to(tmp_path)
    for age, path in enumerate((f"packages/{A}", f"packages/{B}", f"bundles/{C}", f"pythons/{D}"), 1):
        os.utime(made / path, (time.time() - age * 86400, time.time() - age * 86400))
    return made


def test_what_there_is(place: Path) -> None:
    found = look(LocalHost(), str(place))
    assert [(each.path, each.in_use) for each in found] == [
        (f"packages/{A}", True),
        (f"packages/{B}", False),
        (f"bundles/{C}", True),
        (f"pythons/{D}", True),
    ]
    assert found[0].bytes >= 100_000
    age = datetime.datetime.now(datetime.UTC) - found[0].last_used
    assert datetime.timedelta(hours=23) < age < datetime.timedelta(hours=25)


def test_nothing_where_nothing_is(tmp_path: Path) -> None:
    assert look(LocalHost(), str(tmp_path / "nowhere")) == ()


def test_what_is_removed(place: Path) -> None:
    used, unused, *_ = look(LocalHost(), str(place))
    with pytest.raises(SheepdogError, match="in use by a request"):
        used.remove()
    unused.remove()
    unused.remove()  # it is gone already
    assert {each.name for each in look(LocalHost(), str(place))} == {A, C, D}
    assert (place / "packages/notes.txt").exists()


def test_the_bound_takes_what_is_not_in_use(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bound(LocalHost(), str(place)) == []
    monkeypatch.setattr(kept, "MOST", {"bytes": 0, "folders": 0})
    assert [each.name for each in bound(LocalHost(), str(place))] == [B]
    assert {each.name for each in look(LocalHost(), str(place))} == {A, C, D}


def folder(name: str, size: int, hours: int, in_use: bool = False) -> Kept:
    return Kept("packages", name, size, NOW - datetime.timedelta(hours=hours), in_use, LocalHost(), "")


@pytest.mark.parametrize(
    ("most", "folders", "gone"),
    [(100, 9, ""), (25, 9, "d"), (15, 9, "dc"), (0, 9, "dc"), (100, 3, "d"), (100, 1, "dc")],
)
def test_those_go_that_were_used_longest_ago(most: int, folders: int, gone: str) -> None:
    found = [folder("d", 10, 90), folder("a", 5, 99, in_use=True), folder("c", 10, 20), folder("b", 5, 0)]
    assert sorted(each.name for each in too_many(found, NOW, most, folders)) == sorted(gone)
