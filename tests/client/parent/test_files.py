"""What a worker has of what its tasks name."""

import hashlib
from pathlib import Path

import pytest

from sheepdog.bundle.archive import Contents, pack, read
from sheepdog.client.bundle import folder_of, pack_manifest
from sheepdog.client.link import Over
from sheepdog.client.parent.files import Files
from sheepdog.client.wire.calls import call_by_name, for_all, with_manifest
from sheepdog.client.wire.limits import KEPT_FUNCTIONS


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "place" / "job")


def contents(tmp_path: Path, text: str) -> Contents:
    (tmp_path / "mine").mkdir(exist_ok=True)
    (tmp_path / "mine/own.py").write_text(text)
    return read([str(tmp_path / "mine/own.py")], [str(tmp_path / "mine")])[0]


def manifest_of(made: Contents) -> bytes:
    return pack_manifest(bytes.fromhex(made.name), {}, {})


def test_tasks_that_name_nothing_lack_nothing(directory: str) -> None:
    files = Files(directory, b"a function")
    tasks = [(1, 1, b"arguments")]
    files.note(tasks)
    assert (files.lacking(tasks), files.needed_by(tasks), files.of_one_bundle(tasks)) == ([], {}, (b"", 1))


def test_functions_are_kept_as_long_as_they_are_the_last_ones(directory: str) -> None:
    files = Files(directory, b"a function")
    functions = {digest(b"%d" % number): b"%d" % number for number in range(KEPT_FUNCTIONS + 1)}
    for number, (name, function) in enumerate(functions.items(), 1):
        tasks = [(number, 1, call_by_name(name, b"arguments"))]
        files.note(tasks)
        assert files.lacking(tasks) == [name]
        files.take({name: function})
        assert files.needed_by(tasks) == {name: function}
    first, *others = functions
    assert files.lacking([(0, 1, call_by_name(name, b"")) for name in others]) == []
    assert files.lacking([(0, 1, call_by_name(first, b""))]) == [first]


def test_a_bundle_is_asked_for_behind_its_manifest_and_unpacked_once(directory: str, tmp_path: Path) -> None:
    made = contents(tmp_path, "x = 1\n")
    manifest, bundle = manifest_of(made), bytes.fromhex(made.name)
    files = Files(directory, with_manifest(digest(manifest), b"a function"))
    tasks = [(1, 1, b"arguments")]
    assert files.lacking(tasks) == [digest(manifest)]
    files.take({digest(manifest): manifest})
    assert files.lacking(tasks) == [bundle]
    files.take({bundle: pack(made)})
    assert files.lacking(tasks) == []
    assert Path(folder_of(directory, bundle), "bundle.json").exists()
    assert files.needed_by(tasks) == {digest(manifest): manifest}

    another = Files(directory, with_manifest(digest(manifest), b"a function"))  # of another worker there
    another.take({digest(manifest): manifest})
    assert another.lacking(tasks) == []


def test_what_is_nowhere_is_not_asked_for_again(directory: str) -> None:
    files = Files(directory, with_manifest(bytes(32), b"a function"))
    files.take(dict.fromkeys(files.lacking([]), b""))
    assert (files.lacking([]), files.bundle_for()) == ([], b"")


def test_tasks_of_two_bundles_are_not_of_one_process(directory: str, tmp_path: Path) -> None:
    files = Files(directory, b"a function")
    made = [contents(tmp_path, f"x = {number}\n") for number in range(2)]
    calls = [with_manifest(digest(manifest_of(each)), b"arguments") for each in made]
    tasks = [(number, 1, call) for number, call in enumerate([b"plain", calls[0], b"plain", calls[1], calls[0]], 1)]
    files.note(tasks)
    files.take({digest(manifest_of(each)): manifest_of(each) for each in made})
    assert files.of_one_bundle(tasks) == (bytes.fromhex(made[0].name), 3)
    assert files.of_one_bundle(tasks[3:]) == (bytes.fromhex(made[1].name), 1)


def test_a_manifest_for_all_calls_is_that_of_those_that_name_another(directory: str, tmp_path: Path) -> None:
    made = [contents(tmp_path, f"x = {number}\n") for number in range(2)]
    manifest, other = map(manifest_of, made)
    files = Files(directory, for_all(with_manifest(digest(manifest), b"a function")))
    tasks = [(1, 1, with_manifest(digest(other), b"arguments")), (2, 1, b"arguments")]
    files.note(tasks)
    assert files.lacking(tasks) == [digest(manifest)]
    files.take({digest(manifest): manifest})
    assert files.of_one_bundle(tasks) == (bytes.fromhex(made[0].name), 2)
    assert files.needed_by(tasks) == {digest(manifest): manifest}


def test_no_room_for_a_bundle_ends_the_worker_with_a_sentence(directory: str, tmp_path: Path) -> None:
    made = contents(tmp_path, "x = 1\n")
    (tmp_path / "place").mkdir()
    (tmp_path / "place/bundles").write_text("in the way")
    files = Files(directory, with_manifest(digest(manifest_of(made)), b"a function"))
    files.take({digest(manifest_of(made)): manifest_of(made)})
    with pytest.raises(Over, match=r"own files cannot be unpacked in .*/place/bundles \(.*\): make room there"):
        files.take({bytes.fromhex(made.name): pack(made)})
