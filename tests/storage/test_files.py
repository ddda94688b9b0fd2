"""Files in the store, which requests name by what is in them."""

import pytest

from sheepdog.errors import StorageError
from sheepdog.storage import Storage
from sheepdog.values.model import StoredBlob
from tests.storage.samples import request_of


def test_a_file_is_kept_once_and_comes_back_as_it_was(storage: Storage) -> None:
    code = storage.add_file(b"code\0")
    assert storage.add_file(b"code\0") == code != storage.add_file(b"")
    assert storage.file(code) == b"code\0"
    assert storage.db.execute("SELECT size FROM file ORDER BY size").fetchall() == [(0,), (5,)]
    with pytest.raises(StorageError, match="there is no file 'other'"):
        storage.file("other")


def test_files_are_read_for_the_requests_that_name_them(storage: Storage) -> None:
    first, second = request_of(storage, 1), request_of(storage, 1)
    small, large, other = (storage.add_file(content) for content in (b"small", bytes(9 << 20), b"other"))
    storage.name_files(first, {small: small, large: large})
    storage.name_files(second, {other: other})
    found = storage.read_files(first, [small, other, "0" * 64, large], 100)
    assert found[0] == (small, b"small")
    [(name, blob)] = found[1:]
    assert name == large
    assert isinstance(blob, StoredBlob)
    assert b"".join(storage.chunks(blob)) == bytes(9 << 20)
    assert storage.read_files(first, [large, small], 100) == [(large, blob)]  # the rest when it is asked for again


def test_a_file_goes_with_the_last_request_that_names_it(storage: Storage) -> None:
    first, second = request_of(storage, 1), request_of(storage, 1)
    shared, own, unnamed = (storage.add_file(content) for content in (b"shared", b"own", b"unnamed"))
    storage.name_files(first, {"b.py": shared, "a.py": own, "c.py": shared})
    storage.name_files(second, {"b.py": shared})
    assert storage.files_of(first) == {"a.py": own, "b.py": shared, "c.py": shared}
    storage.remove_request(first)
    assert storage.files_of(first) == {}
    assert storage.files_of(second) == {"b.py": shared}
    kept = {content for (content,) in storage.db.execute("SELECT content FROM file")}
    assert kept == {b"shared", b"unnamed"}
    storage.remove_request(second)
    assert storage.file(unnamed) == b"unnamed"
    with pytest.raises(StorageError):
        storage.file(shared)
