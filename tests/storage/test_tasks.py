"""Tasks: their arguments come in portions."""

from sheepdog.storage import Storage


def test_tasks_are_read_until_there_are_enough_bytes(storage: Storage) -> None:
    request = storage.new_request(b"f", b"", [b"x" * 10] * 9)

    def read(indexes: list[int], limit: int) -> list[int]:
        return [index for index, _ in storage.read_tasks(request, indexes, limit)]

    assert read([7, 1, 2, 8], 100) == [1, 2, 7, 8]
    assert read([7, 1, 2, 8], 30) == [1, 2, 7]
    assert read([7, 1], 5) == [1]  # one at least
    assert read([], 5) == []
