"""Files that are stored with a request: what its function and arguments need besides, and how they name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from ..errors import FilesChanged

TRIES = 3  # to make files that change meanwhile

T = TypeVar("T")

Files = Mapping[str, Callable[[], bytes]]
"""Files by their paths, which end with the hash that each is known by, as what makes them."""


def made(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return what makes the same again, and does not look anew at what that is made of."""
    return bytes(make()).__bytes__


def undisturbed(make: Callable[[], T]) -> T:
    """Return what is made of files. If they change meanwhile it is made anew, but not for ever: FilesChanged."""
    for _ in range(TRIES - 1):
        with suppress(FilesChanged):
            return make()
    return make()


WANTED = "wanted/"
"""Begins the path of a request's list of the installed packages that it needs."""


BROUGHT = "packages/"
"""Begins the path of packages that a request has brought along: below ssh_dir, and among its files in the store."""


class Needed(NamedTuple):
    """What comes before a function, or a call, that needs files of the user's own; and what is to be stored with it."""

    before: bytes = b""
    files: Files = MappingProxyType({})


class Function(NamedTuple):
    """What a request calls: the function and its namespace, serialised, the form that they have, and its files."""

    function: bytes
    namespace: bytes
    form: dict[str, Any]
    files: Files = MappingProxyType({})
