"""Bundles of the user's own files on a host: put there once, all of a bundle or nothing."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Callable
from contextlib import suppress

from ..errors import CommandFailed, HostError
from .hosts import Host
from .upload import upload_and_run

FOLDER = "bundles"
ARCHIVE = "bundle.tgz"
UNPACK = "unpack.sh"

_LOOK = (
    "cd && command -v gzip >/dev/null || { echo none; exit; }; "
    'cd "$1" 2>/dev/null && [ -d "$2" ] && touch -c "$2" && echo there; true'
)
# Two may come at once: the later one finds that its folder went into the other's, and takes it out again.
_UNPACK = """here=$(pwd) name=${here##*/}
gzip -dc bundle.tgz | tar -xf - && rm -f bundle.tgz unpack.sh && [ -s bundle.json ] || exit 1
cd .. && kept=${name%.*} && { [ -d "$kept" ] || mv "$name" "$kept"; } && rm -rf "./$name" "./$kept/$name"
"""


def put(host: Host, place: str, name: str, archive: Callable[[], bytes]) -> bool:
    """Put a bundle of this name there, unless it is there already; tell whether it was sent. place is ssh_dir.

    Where there is no gzip, that is left to the workers: they fetch what is not there.
    Raises CommandFailed if there is no room; then nothing of it is left.
    """
    folder = posixpath.join(posixpath.normpath(place.removeprefix("~/")), FOLDER)
    if host.run(["sh", "-c", _LOOK, "sh", folder, name]).split()[-1:] in ([b"there"], [b"none"]):
        return False
    new = f"{folder}/{name}.{secrets.token_hex(8)}"
    try:
        upload_and_run(host, new, {ARCHIVE: archive(), UNPACK: _UNPACK.encode()}, UNPACK)
    except CommandFailed:
        with suppress(HostError):
            host.run(["sh", "-c", 'cd && rm -rf "$1"', "sh", new])
        raise
    return True
