"""What a disk holds after its power has failed: all that was synced, and nobody knows how much of the rest.

A file system may write what was not synced in any order, or not at all, and the last sector may be half of a write.
So after a loss each file has the writes up to its last sync, and of those behind it none, all, some, or some sectors.
"""

import pickle
import random
from collections.abc import Iterator
from pathlib import Path

SECTOR = 512
FATES = ("none", "all", "some", "torn")

Entry = tuple[str, str, int, bytes]  # write, truncate, sync or delete; the file's name; offset or size; data


class Disk:
    """A directory's files, by name, as they were synced, and what was done to them since."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {name: bytearray(data) for name, data in files.items()}
        self.unsynced: dict[str, list[Entry]] = {}

    def replay(self, journal: Path) -> None:
        """Do again what was recorded."""
        for entry in entries(journal):
            kind, name, _, _ = entry
            if kind != "sync":
                self.unsynced.setdefault(name, []).append(entry)
                continue
            for done in self.unsynced.pop(name, []):
                self.apply(done)

    def lose_power(self, chance: random.Random) -> dict[str, bytes]:
        """Return the files that are found afterwards."""
        for waiting in self.unsynced.values():
            fate = chance.choice(FATES)
            for entry in waiting:
                if entry[0] == "delete":
                    if chance.random() < 0.5:
                        break  # what follows went into another file, whose name was lost
                    self.apply(entry)
                elif fate == "all":
                    self.apply(entry)
                elif fate != "none":
                    for part in pieces(entry, fate == "torn"):
                        if chance.random() < 0.5:
                            self.apply(part)
        self.unsynced.clear()
        return {name: bytes(data) for name, data in self.files.items()}

    def apply(self, entry: Entry) -> None:
        kind, name, number, data = entry
        if kind == "delete":
            self.files.pop(name, None)
            return
        file = self.files.setdefault(name, bytearray())
        if kind == "truncate":
            file[:] = file[:number].ljust(number, b"\0")
        else:
            file.extend(bytes(max(0, number + len(data) - len(file))))
            file[number : number + len(data)] = data


def pieces(entry: Entry, torn: bool) -> Iterator[Entry]:
    """Yield a write in sectors, if it is torn; whatever else, as it is."""
    kind, name, start, data = entry
    if kind != "write" or not torn:
        yield entry
        return
    offset = 0
    while offset < len(data):
        stop = min(len(data), offset + SECTOR - (start + offset) % SECTOR)
        yield kind, name, start + offset, data[offset:stop]
        offset = stop


def entries(journal: Path) -> Iterator[Entry]:
    """Yield what was recorded; the last record may be cut off, where its writer was killed."""
    with journal.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except (EOFError, pickle.UnpicklingError):
                return
