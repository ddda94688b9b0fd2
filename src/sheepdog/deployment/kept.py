"""What a host keeps below ssh_dir for the next request: own files, interpreters, packages; listed, bounded, removed."""

from __future__ import annotations

import datetime
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..errors import SheepdogError
from .commands import text_of
from .folders import KINDS
from .hosts import Host

USES = "uses"  # the file in an array job's directory that names the folders which its workers use
MOST = {"bytes": 10 << 30, "folders": 200}
"""Of what stays where something was sent to, besides what is in use."""
FRESH = 60  # minutes in which somebody may be about to use what was looked at
TIMEOUT = 600.0

# Prints of each folder its kind and name, its kilobytes, when it was last asked for, and whether an array job whose
# request has not ended names it: such a one has a secret.
_LOOK = f"""
cd && cd "$1" 2>/dev/null || exit 0
for kind in {" ".join(KINDS)}; do
  for each in $kind/*; do
    name=${{each##*/}}
    [ -d "$each" ] && [ ! -h "$each" ] && [ ! -h $kind ] || continue
    used=0
    for secret in */secret.json; do
      [ -e "$secret" ] && grep -qsF "$name" "${{secret%/*}}/{USES}" "${{secret%/*}}"/*.sh && used=1 && break
    done
    size=$(du -sk "$each" | cut -f 1)
    time=$(stat -c %Y "$each" 2>/dev/null || date -r "$each" +%s)
    echo "sheepdog:kept $kind $name $size $time $used"
  done
done
"""
_REMOVE = """
cd && cd "$1" 2>/dev/null || exit 0
shift
for each; do
  [ ! -h "${each%/*}" ] && [ ! -h "$each" ] || continue
  rm -rf "./$each.0000000000000000" && mv "./$each" "./$each.0000000000000000" && rm -rf "./$each.0000000000000000"
done
true
"""


@dataclass(frozen=True)
class Kept:
    """A folder that a host keeps: its kind (bundles, pythons or packages), and the hash of what is in it.

    bytes are those on its disk. last_used is when a request last asked for it; in_use tells whether one that has not
    ended does.
    """

    kind: str
    name: str
    bytes: int
    last_used: datetime.datetime
    in_use: bool
    host: Host = field(repr=False, compare=False)
    place: str = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """Where it is, below ssh_dir."""
        return f"{self.kind}/{self.name}"

    def remove(self) -> None:
        """Remove it there. Raises SheepdogError if it is in use, other HostErrors if the host cannot be asked."""
        if self.in_use:
            raise SheepdogError(f"{self.path} on {self.host.name} is in use by a request that has not ended")
        remove(self.host, self.place, [self])


def look(host: Host, place: str) -> tuple[Kept, ...]:
    """Return what a host keeps, the last used first. place is ssh_dir."""
    place = posixpath.normpath(place.removeprefix("~/"))
    said = text_of(host.run(["sh", "-s", place], _LOOK.encode(), TIMEOUT))
    kinds = "|".join(KINDS)
    found = [
        Kept(
            match[1],
            match[2],
            int(match[3]) * 1024,
            datetime.datetime.fromtimestamp(int(match[4]), datetime.UTC),
            match[5] == "1",
            host,
            place,
        )
        for match in re.finditer(rf"^sheepdog:kept ({kinds}) ([0-9a-f]{{64}}) (\d+) (\d+) ([01])$", said, re.MULTILINE)
    ]
    return tuple(sorted(found, key=lambda each: each.last_used, reverse=True))


def remove(host: Host, place: str, folders: Iterable[Kept]) -> None:
    """Remove folders that a host keeps. One that comes back meanwhile is whole."""
    paths = [each.path for each in folders]
    if paths:
        host.run(["sh", "-s", posixpath.normpath(place.removeprefix("~/")), *paths], _REMOVE.encode(), TIMEOUT)


def too_many(found: Sequence[Kept], now: datetime.datetime, most: int, folders: int) -> list[Kept]:
    """Return which to remove so that there are at most so many bytes, in so many folders: those used longest ago.

    What is in use stays, and what was asked for in the last hour.
    """
    fresh = now - datetime.timedelta(minutes=FRESH)
    size, count, gone = 0, 0, []
    for each in sorted(found, key=lambda each: (each.in_use or each.last_used > fresh, each.last_used), reverse=True):
        size, count = size + each.bytes, count + 1
        if (size > most or count > folders) and not each.in_use and each.last_used <= fresh:
            gone.append(each)
            size, count = size - each.bytes, count - 1
    return gone


def bound(host: Host, place: str) -> list[Kept]:
    """Remove what is too much of what a host keeps, and return it."""
    found = too_many(look(host, place), datetime.datetime.now(datetime.UTC), MOST["bytes"], MOST["folders"])
    remove(host, place, found)
    return found
