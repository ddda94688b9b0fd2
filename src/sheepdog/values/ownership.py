"""The one rule for files that lie beside the program or come from elsewhere: they are data until known as one's own.

One's own is a regular file, no link, that belongs to the user and that nobody else can write. A group of the user's own
name counts as the user. For root, a file also counts that belongs to the owner of the directory it lies in: who runs a
program as root in the directory of somebody trusts that one.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from pathlib import Path

from ..errors import NotOwnFile


def require_own(path: str | os.PathLike[str]) -> os.stat_result:
    """Raise NotOwnFile unless what is there is one's own; it is not opened. OSError if there is nothing."""
    found = os.lstat(path)
    if words := fault(found, path):
        raise NotOwnFile(words)
    return found


def open_own(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a file of one's own, and return its descriptor; made, it has mode 0600. NotOwnFile if it is not.

    Nothing of a file changes that is not one's own: with O_TRUNC it is emptied when that is known. To be written, it
    must have no other name either. Never open a database so: SQLite's locks on it would go with the descriptor.
    """
    try:  # a pipe is not waited for
        descriptor = os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            require_own(path)  # which says more
        raise
    try:
        found = os.fstat(descriptor)
        if words := fault(found, path):
            raise NotOwnFile(words)
        if found.st_nlink != 1 and flags & (os.O_WRONLY | os.O_RDWR):
            raise NotOwnFile(f"{path} has another name, too (a hard link): remove it")
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_own(path: str | os.PathLike[str]) -> bytes:
    """Return what is in a file of one's own."""
    with open(open_own(path), "rb") as file:
        return file.read()


def fault(found: os.stat_result, path: str | os.PathLike[str]) -> str:
    """Return why what was found at a path is not one's own, and what to do; empty if it is."""
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link: remove it, or give the file that it leads to"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a file: choose another"
    if not belongs(found, path):
        owner = user_name(found.st_uid)
        return f"{path} belongs to another user ({owner}): choose another place, or copy it to a directory of your own"
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not is_own_group(found)):
        mode = stat.filemode(found.st_mode)
        return f"{path} can be changed by others ({mode}): see that it is as you left it, then `chmod go-w` it"
    return ""


def belongs(found: os.stat_result, path: str | os.PathLike[str]) -> bool:
    """Tell whether what was found at a path is the user's; for root, see above."""
    if found.st_uid == os.geteuid():
        return True
    return os.geteuid() == 0 and found.st_uid == os.stat(Path(path).absolute().parent).st_uid


def is_own_group(found: os.stat_result) -> bool:
    """Tell whether a file's group is the one of its owner's own name, as many systems give each user."""
    try:
        return grp.getgrgid(found.st_gid).gr_name == pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return False


def user_name(uid: int) -> str:
    """Return the name of a user, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
