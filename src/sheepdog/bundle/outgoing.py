"""Outgoing: what leaves for one request, as bytes, and what it needs of the user's own files."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from types import FunctionType
from typing import Any, BinaryIO

from ..client import OURS
from ..client.bundle import pack_manifest
from ..client.wire.calls import with_manifest
from ..client.wire.values import dump_plain
from ..errors import FilesChanged
from ..values.files import WANTED, Files, Needed, made, undisturbed
from ..values.packages import Wanted, stored
from .before import Before
from .blame import trail
from .bundle import Bundle, Bundles, Ship
from .facts import Fact
from .needs import Needs, dumps, pickler_of, unshared
from .packages import wanted
from .state import State, Watch

AGAIN = 1.0  # seconds from one look at the files of a request that stays open to the next

BUNDLES = Bundles()
NOTHING = Needed()
FIRST = Before()


class Outgoing:
    """Makes bytes of a request's function and arguments, and notes what they need.

    It only grows: of a request that stays open, later calls need what earlier ones did, and so rarely another bundle.
    again: seconds from one look at the files to the next; inf for a function that is given once: its code stays.
    before: what the request had, if this is a function for one that is there.
    """

    def __init__(self, ship: Ship = (), before: Before = FIRST, again: float = AGAIN) -> None:
        self.ship = ship
        self.before = before
        self.again = again
        self.needs = Needs(modules=set(before.names))
        self.by_value = unshared()
        self.found: Bundle | None = None
        self.size = (-1, -1, -1)  # of the needs when the bundle was looked for
        self.next_look = 0.0
        self.needed: Needed = NOTHING
        self.frozen: Needed | None = None
        self.second: dict[str, dict[str, bytes]] = {}
        self.theirs: dict[tuple[str, str], Needs] = {}  # what each of these needs
        self.watch: Watch | None = None
        self.state: State | None = None  # what needed was made of

    def pickler(self, buffer: BinaryIO) -> Pickler:
        """Return a pickler that notes what is needed."""
        return Pickler(self, buffer, pickler_of(buffer, self.by_value, self.needs))

    def dump(self, value: Any) -> bytes:
        """Return a value as bytes. Raises PicklingError, which names the part that cannot travel."""
        data = dump_plain(value)
        if data is not None:
            return data
        try:
            return dumps(value, self.by_value, self.needs)
        except Exception as error:
            raise self.blamed(error, value) from error

    def blamed(self, error: Exception, value: Any) -> Exception:
        """Return the error of a value that cannot travel, with the way to the part at fault."""
        try:
            name = getattr(value, "__name__", "it") if isinstance(value, (FunctionType, type)) else "it"
            if isinstance(value, tuple) and [*map(type, value)] == [tuple, dict]:
                name, value = "arguments", value[0] if self.why_not(value[0]) is not None else value[1]
            way = trail(value, name, self.why_not)
        except Exception:  # a value can answer anything, whatever it is asked
            return error
        return pickle.PicklingError(f"{error} ({way})") if " -> " in way else error

    def why_not(self, value: Any) -> Exception | None:
        """Return why a value cannot travel; None if it can."""
        try:
            dumps(value, self.by_value, Needs())
        except Exception as error:
            return error
        return None

    def grown(self) -> bool:
        """Tell whether more is needed than when it was last asked what is."""
        return self.needs.size() != self.size

    def look(self) -> Needed:
        """Return what is needed: as things are now, but for what has changed of files since the last look at them."""
        return self._look() if self.frozen is None else self.frozen

    def _look(self) -> Needed:
        now = time.monotonic()
        if self.grown() or now >= self.next_look:
            found, size = self.before.beside(BUNDLES.find(self.needs, self.ship)), self.needs.size()
            if found is not self.found or size != self.size or self.watch is None or self.watch.loaded:
                self.watch = found.watch(self.needs)
                self.state = None
            if found is not self.found or size[:2] != self.size[:2]:
                say(found.facts)
                self.theirs = {}
                self.second = found.second(self.needs, self.theirs)
            self.found, self.size, self.next_look = found, size, now + self.again
        bundle, watch = self.found, self.watch
        assert bundle is not None
        assert watch is not None
        if not bundle.contents.files:
            return NOTHING
        state = watch.look()
        if watch.loaded and self.again < math.inf:
            self.next_look = 0.0
            return self._look()
        if state is not self.state:
            self.state = state
            say(state.facts)
            manifest = pack_manifest(bytes.fromhex(bundle.name), self.before.state_with(state.modules), self.second)
            digest = hashlib.sha256(manifest).digest()
            archive = functools.partial(self.pack, bundle)
            files: Files = {digest.hex(): manifest.__bytes__, f"bundles/{bundle.name}": archive}
            self.needed = Needed(with_manifest(digest, b""), files)
        return self.needed

    def pack(self, bundle: Bundle) -> bytes:
        """Return the archive of a bundle. Raises FilesChanged; then the next look is at the files, too."""
        try:
            return bundle.pack()
        except FilesChanged:
            self.next_look = 0.0
            raise

    def freeze(self) -> Needed:
        """Return what is needed, made now, until thaw: what it is made of may change before it is stored."""

        def make() -> Needed:
            needed = self._look()
            return needed._replace(files={path: made(make) for path, make in needed.files.items()})

        self.frozen = undisturbed(make)
        return self.frozen

    def thaw(self) -> None:
        """Look again: what was made is stored."""
        self.frozen = None

    def packages(self, called: Any = None) -> tuple[Wanted, ...]:
        """Return the installed packages that are needed. called: what the tasks call, if that is known."""
        bundle = self.found if self.ship is not False else BUNDLES.find(self.needs)
        return wanted(self.needs, bundle.reached, self.theirs, called) if bundle is not None else ()

    def look_first(self, called: Any = None) -> Needed:
        """Return what is needed, and the list of the installed packages that are to be there before a task runs."""
        needed = self.look()
        listed = stored(self.before.packages_with(self.packages(called)))
        if not listed:
            return needed
        return needed._replace(
            files={**needed.files, f"{WANTED}{hashlib.sha256(listed).hexdigest()}": listed.__bytes__}
        )


class Pickler:
    """Dumps values one after the other, which share what they have in common."""

    def __init__(self, outgoing: Outgoing, buffer: BinaryIO, pickler: Any) -> None:
        self.outgoing = outgoing
        self.buffer = buffer
        self.inner = pickler

    def dump(self, value: Any) -> None:
        """Write a value. Raises PicklingError, which names the part that cannot travel."""
        try:
            self.inner.dump(value)
        except Exception as error:
            raise self.outgoing.blamed(error, value) from error
        if isinstance(self.buffer, io.BytesIO):
            self.outgoing.needs.look_for_names(self.buffer.getvalue())


_said: set[Fact] = set()
_saying = threading.Lock()


def say(facts: Iterable[Fact]) -> None:
    """Warn of what the user should know, once in a process."""
    with _saying:
        new = [fact for fact in dict.fromkeys(facts) if fact not in _said]
        _said.update(new)
    for fact in new:
        warnings.warn(str(fact), stacklevel=_user_level())


def _user_level() -> int:
    """Return how many frames above its caller the first is that is not this library's; 1 is the caller."""
    level, frame = 1, sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] in OURS and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level
