"""The options of a request: its configuration, where its local workers run, and who made it. The store keeps them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from .checks import short
from .config import KEYS, Config

FIRST_WORKERS = 16  # of a cluster, before anybody knows how long the tasks are
CLUSTER_WORKERS = 1000
STANDING_WORKERS = 16  # that wait for tasks as they come


class Interpreter(NamedTuple):
    """A Python of the host that was found there, or is brought along."""

    command: str = ""
    """Quoted for a shell."""
    loads: tuple[str, ...] = ()
    """Lines for the worker's shell that it needs, before those of setup."""
    brought: str = ""
    """The name of the one that is brought along; empty if it was found."""
    title: str = ""
    """What people are told of it."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Interpreter:
        """Return what was stored."""
        known = {name: value for name, value in stored.items() if name in cls._fields}
        return cls(**{**known, "loads": tuple(known.get("loads", ()))})


@dataclass(frozen=True, slots=True)
class Options:
    """What a request is run with. It is read once from what is stored, wherever a request comes in."""

    config: Config
    """The scheduler that was chosen is in it."""
    directory: str = ""
    """Where the workers of this machine run; empty elsewhere."""
    maker: dict[str, Any] = field(default_factory=dict)
    """The signature of the process that made the request; empty if it is not known."""
    ordered: bool = False
    """Whether tasks begin in their order, since one may wait for another: those of an executor and of imap."""

    interpreter: Interpreter = Interpreter()  # noqa: RUF009
    """The worker's Python, if one was looked for."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Options:
        """Return the options that a version of any age has stored: nothing of them is refused."""
        return cls(
            _config(stored),
            stored.get("directory", ""),
            stored.get("maker", {}),
            bool(stored.get("ordered")),
            Interpreter.read(stored.get("interpreter", {})),
        )

    def require_kinds(self) -> None:
        """Raise ConfigError if a value is of another kind than its key has: it can be of no use, whoever stored it."""
        for name, kinds in _kinds().items():
            value = getattr(self.config, name)
            if not isinstance(value, kinds):
                raise ConfigError(f"{name} is {short(value)}, a {type(value).__name__}, as it was stored")

    def stored(self) -> dict[str, Any]:
        """Return what the store keeps, as JSON."""
        more: dict[str, Any] = {"ordered": True} if self.ordered else {}
        if self.interpreter.command:
            more["interpreter"] = self.interpreter._asdict()
        return {**asdict(self.config), "directory": self.directory, "maker": self.maker, **more}

    @property
    def scheduler(self) -> str:
        """The name of the scheduler that was chosen; empty if none was."""
        return self.config.scheduler or ""

    @property
    def here(self) -> bool:
        """Whether the workers are processes of this machine."""
        return self.scheduler == "local" and self.config.host is None

    @property
    def can_bring(self) -> bool:
        """Whether packages can be brought along: to all but the Python that runs here, which has its own."""
        return not self.here or self.command != shlex.quote(sys.executable)

    @property
    def relays(self) -> bool:
        """Whether workers may call a relay on the host."""
        return self.config.host is not None and self.config.link != "direct"

    @property
    def calls(self) -> bool:
        """Whether workers may call this machine themselves, from others."""
        return not self.here and self.config.link != "relay"

    @property
    def command(self) -> str:
        """The command of the worker's Python, quoted for a shell."""
        return self.interpreter.command or self.config.command(self.scheduler)

    @property
    def setup(self) -> tuple[str, ...]:
        """Lines for the shell that starts it."""
        return (*self.interpreter.loads, *self.config.setup)

    def workers(self, tasks: int | None) -> int:
        """Return how many workers so many tasks should have; None is any number, as they come."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        local = max(1, cores // (self.config.cpus or 1))
        if tasks is None:
            return self.config.workers or (local if self.scheduler == "local" else STANDING_WORKERS)
        return min(self.config.workers or (local if self.scheduler == "local" else CLUSTER_WORKERS), tasks)

    def first_workers(self, tasks: int | None) -> int:
        """Return how many workers to begin with; server/decide/growth.py says when there are to be more."""
        workers = self.workers(tasks)
        return workers if self.config.workers or self.scheduler == "local" else min(FIRST_WORKERS, workers)


@cache
def _kinds() -> dict[str, tuple[type, ...]]:
    """Return the types that the values of each key may have."""
    found = {}
    for name, hint in get_type_hints(Config).items():
        kinds = {get_origin(each) or each for each in (get_args(hint) if isinstance(hint, UnionType) else [hint])}
        found[name] = tuple(kinds | {int} if float in kinds else kinds)
    return found


def _config(stored: Mapping[str, Any]) -> Config:
    """Return the configuration that was stored. A key that it lacks has its default; other keys are left out.

    A value that would be refused now was good when it was stored: it stays.
    """
    config = object.__new__(Config)
    for name, known in KEYS.items():
        value = stored.get(name, known.default)
        try:
            value = known.metadata["check"](value)
        except ValueError:
            value = tuple(value) if isinstance(value, list) else value
        object.__setattr__(config, name, value)
    return config
