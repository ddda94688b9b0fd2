"""This account on this machine: a secret key in the user's home, and what can be proved with it.

Names, numbers and machine ids can be read and written by anybody; what was signed with the key, this account signed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigError, StorageError
from .ownership import read_own

MACHINE = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def home() -> Path:
    """Return the user's home directory; ConfigError if there is none, as for a user id of a container."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise ConfigError(
            f"the user {os.getuid()} of this machine has no home directory: set HOME to a directory of your own"
        ) from error


def cache(what: str) -> Path:
    """Return the folder of what can be made again, of one kind."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else home() / ".cache") / "sheepdog" / what


def key_file() -> Path:
    """Return where the key is."""
    state = os.environ.get("XDG_STATE_HOME") or home() / ".local" / "state"
    return Path(state, "sheepdog", "key")


def digest(key: bytes, *words: str) -> str:
    """Return what only who has the key can say of these words."""
    return hmac.new(key, "\0".join(words).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def key() -> bytes | None:
    """Return this account's key; None if it has none yet."""
    try:
        return read_own(key_file())
    except (ConfigError, FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def made_key() -> bytes:
    """Return this account's key, made when it is first needed. StorageError if it cannot be kept."""
    if found := key():
        return found
    file = key_file()
    new = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
                made.write(secrets.token_bytes(32))
                made.flush()
                os.fsync(made.fileno())
            with suppress(FileExistsError):  # another program was quicker: that one's stays
                os.link(new, file)
        finally:
            new.unlink(missing_ok=True)
        return read_own(file)
    except OSError as error:
        raise StorageError(
            f"{file}, by which databases are known to be this account's, cannot be made ({error.strerror}): set HOME "
            "or XDG_STATE_HOME to a directory of your own"
        ) from error


def machine() -> str:
    """Return what names this machine, whatever its network calls it; empty where nothing does, as in containers."""
    for file in MACHINE:
        with suppress(OSError):
            return Path(file).read_text().strip()
    return ""
