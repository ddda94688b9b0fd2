"""What was made of a file is made again when the file has changed, and not else."""

import os
from pathlib import Path

import pytest

from sheepdog.bundle.stamps import Kept, is_settled, stamp_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


def test_made_once_while_it_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sheepdog.bundle.stamps.SETTLED", -1.0)
    made = []
    kept = Kept(lambda path: made.append(path) or Path(path).read_text())
    assert [kept.get(str(file)) for _ in range(3)] == ["one"] * 3
    assert len(made) == 1
    file.write_text("other")
    assert kept.get(str(file)) == "other"
    file.unlink()
    with pytest.raises(FileNotFoundError):
        kept.get(str(file))


def test_a_file_that_was_just_written_is_not_trusted(file: Path) -> None:
    """Its next change may have the same time."""
    kept = Kept(lambda path: Path(path).read_text())
    for text in ("abc", "def", "ghi"):
        file.write_text(text)
        assert kept.get(str(file)) == text


def test_a_change_with_the_old_time_is_seen(file: Path) -> None:
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stamp_of(file.stat()) != stamp_of(before)
    assert not is_settled(file.stat())
