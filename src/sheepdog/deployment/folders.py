"""Folders that a host is given in archives: each is named after the hash of its content, and there whole or not at all.

    ssh_dir/bundles/HASH     the user's own files
    ssh_dir/pythons/HASH     an interpreter
    ssh_dir/packages/HASH    installed packages

One that comes is made beside its place, as HASH.0123456789abcdef, and gets its name when all of it is there.
"""

from __future__ import annotations

import gzip
import posixpath
import re
import secrets
from collections.abc import Callable
from contextlib import suppress

from ..errors import CommandFailed, HostError
from .hosts import Host
from .upload import upload_and_run

BUNDLES, PYTHONS, PACKAGES = KINDS = ("bundles", "pythons", "packages")
ARCHIVE = "archive"
UNPACK = "unpack.sh"
TIMEOUT = 3600.0  # seconds for one to come: it may be large, and the way slow

_LOOK = (
    'for each in gzip tar; do command -v $each; done; cd && cd "$1" 2>/dev/null && [ -d "$2" ] && touch -c "$2" && '
    "echo there; true"
)


def put(
    host: Host, place: str, kind: str, name: str, archive: Callable[[], bytes], said: Callable[[], object] = bool
) -> bool:
    """Put a folder of this kind and name there, unless it is there already; tell whether it was sent.

    place is ssh_dir; name is the hash; archive makes a tar that gzip has compressed. said is called before it is sent.
    Where there is no gzip, it goes as it is. Raises CommandFailed if it cannot be unpacked there, as where there is no
    room, and other HostErrors as Host.run does; then nothing of it is left, unless the host does not answer any more.
    """
    folder = folder_of(place, kind)
    found = {line.rpartition(b"/")[2] for line in host.run(["sh", "-c", _LOOK, "sh", folder, name]).splitlines()}
    if b"there" in found:
        return False
    if b"tar" not in found:
        raise CommandFailed(f"there is no tar on {host.name}", 127, b"", b"there is no tar, which Sheepdog needs there")
    said()
    packed, unpack = archive(), f"gzip -dc <{ARCHIVE}"
    if b"gzip" not in found:
        packed, unpack = gzip.decompress(packed), f"cat {ARCHIVE}"
    new = f"{folder}/{name}.{secrets.token_hex(8)}"
    try:
        upload_and_run(host, new, {ARCHIVE: packed, UNPACK: _script(unpack)}, UNPACK, TIMEOUT)
    except HostError:
        with suppress(HostError):
            host.run(["sh", "-c", 'cd && rm -rf "$1"', "sh", new])
        raise
    return True


def folder_of(place: str, kind: str) -> str:
    """Return where the folders of a kind are, for a shell in the home directory. place is ssh_dir."""
    return posixpath.join(posixpath.normpath(place.removeprefix("~/")), kind)


def why_not(error: CommandFailed) -> str:
    """Return why a folder could not be put there, in a line; tar says it of each file."""
    lines = error.errors.decode(errors="replace").strip().splitlines() or [str(error)]
    full = [line for line in lines if re.search("no space|quota", line, re.IGNORECASE)]
    more = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 else ""
    remedy = ": make room there, or set ssh_dir to a directory with more" if full else ""
    return f"{(full or lines)[0][:300]}{more}{remedy}"


def _script(unpack: str) -> bytes:
    """Return what makes a folder of an archive that has come; unpack prints the tar.

    Two may come at once: the later one finds that its folder went into the other's, and takes it out again.
    """
    return f"""here=$(pwd) name=${{here##*/}}
{{ {unpack} || : >{ARCHIVE}.bad; }} | tar -xf - && [ ! -e {ARCHIVE}.bad ] && rm -f {ARCHIVE} {UNPACK} || exit 1
cd .. && kept=${{name%.*}} && {{ [ -d "$kept" ] || mv "$name" "$kept"; }} && rm -rf "./$name" "./$kept/$name"
""".encode()
