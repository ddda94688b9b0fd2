"""The configuration: for each key its type, its default, its check, and how a variable's text is read, in one place."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, TypeVar

from ..errors import ConfigError
from . import checks, qsub, sbatch
from .checks import (
    Check,
    Reader,
    optional,
    read_flag,
    read_lines,
    read_number,
    read_options,
    read_packages,
    read_ship,
    read_variables,
    read_whole,
    seconds,
    short,
    whole,
)
from .values import parse_factor, parse_size, parse_time

T = TypeVar("T")


def key(default: T, check: Check, read: Reader = str) -> T:
    """Make a field of the configuration. read makes a value of a variable's text."""
    return field(default=default, metadata={"check": check, "read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How to run: every value is checked, and a wrong one is a ConfigError."""

    host: str | None = key(None, optional(checks.host, "no host"))
    """The machine to ssh to in order to run qsub."""
    ssh_port: int | None = key(None, optional(checks.port, "ssh's own choice"), read_whole)
    ssh_user: str | None = key(None, optional(checks.user, "ssh's own choice"))
    ssh_keyfile: str | None = key(None, optional(checks.path(checks.printable), "ssh's own choice"))
    """~ is expanded at use."""
    ssh_dir: str = key(".sheepdog", checks.ssh_dir)
    """For job files; relative to the remote home directory."""
    dbfile: str = key("./sheepdog.sqlite", checks.path(checks.dbfile))
    port: int | None = key(None, optional(checks.port, "a free port"), read_whole)
    """Of the server."""
    localhost: str | None = key(None, optional(checks.machine, "its full name"))
    """This machine's name, as workers reach it."""
    link: str = key(checks.AUTO, checks.link)
    """How workers reach this machine: by themselves, or by a relay on the host, or as they can."""
    shell: str | None = key(None, optional(checks.command, "the usual Python 3"))
    """The worker's Python on the host; see command()."""
    python: str = key(checks.AUTO, checks.path(checks.python))
    """Which Python the workers have, if shell does not say it; see front/pythons.py."""
    setup: tuple[str, ...] = key((), checks.setup, read_lines)
    """Lines for the shell that starts the worker's Python."""
    env: tuple[tuple[str, str], ...] = key((), checks.variables, read_variables)
    """Environment variables of the tasks; given as a dict."""
    ge_opts: tuple[str, ...] = key((), qsub.check, read_options)
    """Options of qsub, one "#$" line each."""
    slurm_opts: tuple[str, ...] = key((), sbatch.check, read_options)
    """Options of sbatch, one "#SBATCH" line each."""
    scheduler: str | None = key(None, optional(checks.scheduler, "the one that fits"))
    """One of SCHEDULERS; None: see choose_scheduler."""
    workers: int | None = key(None, optional(whole(1, 100_000), "as many as fit"), read_whole)
    """None: on a cluster up to one per task, 1000 at most, as many as their length calls for; one per core locally."""
    name: str | None = key(None, optional(checks.name, "one of Sheepdog's"))
    """The array job's, for all to see on the cluster."""
    queue: str | None = key(None, optional(checks.queues, "the site's choice"))
    """Slurm calls it a partition."""
    cpus: int | None = key(None, optional(whole(1, 10_000), "the site's choice"), read_whole)
    """Of one worker."""
    gpus: int | None = key(None, optional(whole(1, 1000), "none"), read_whole)
    """Of one worker."""
    memory: str | None = key(None, optional(checks.memory, "no limit"))
    """Of one worker, such as "2G"; see memory_bytes."""
    memory_resource: str | None = key(None, optional(checks.resource, "what the site says"))
    """What this Grid Engine site calls memory after -l; None: it is asked."""
    gpu_resource: str | None = key(None, optional(checks.resource, "what the site says"))
    """... and GPUs."""
    parallel_environment: str | None = key(None, optional(checks.resource, "what the site says"))
    """... and the one whose slots are all on one host."""
    patience: float = key(86400.0, seconds("more than 0", 1e-9), read_number)
    """Seconds a worker keeps trying to deliver outcomes."""
    lease: float = key(150.0, seconds("at least 1", 1), read_number)
    """Seconds without a heartbeat after which a worker counts as lost."""
    poll_interval: float = key(30.0, seconds("at least 1", 1), read_number)
    """Seconds at least between two status queries to a head node."""
    time: str | None = key(None, optional(checks.time, "no limit"))
    """Of one worker, such as "2h"; see time_seconds."""
    timeout: float | None = key(None, optional(seconds("more than 0", 1e-3), "no limit"), read_number)
    """Seconds that a task may run."""
    retries: int = key(0, whole(0, 1000), read_whole)
    """Of a task that raised, died or ran into its timeout."""
    retry_delay: float = key(5.0, seconds("at least 0", 0), read_number)
    """Seconds before the first retry; twice as long before each other one."""
    max_losses: int = key(3, whole(1, 1_000_000), read_whole)
    """Workers that a task may lose before it is given up."""
    on_oom: str | None = key(None, optional(checks.factor, "no second attempt"))
    """Such as "2x": the memory of the next attempt."""
    on_walltime: str | None = key(None, optional(checks.factor, "the same time again"))
    """Such as "2x": the time of the next attempt."""
    resubmissions: int = key(3, whole(0, 1000), read_whole)
    """Of workers that ended too early: in a row, each without an outcome or within ten minutes."""
    fail_fast: int = key(20, whole(0, 1_000_000), read_whole)
    """First tasks that fail alike and so end the request; 0: never."""
    idle_time: float = key(600.0, seconds("more than 0", 1e-3), read_number)
    """Seconds without a call after which an executor's workers end."""
    keep: str | None = key(None, optional(checks.time, "30 days"))
    """How long the directory of an array job stays if tasks failed; see keep_seconds. If it is said, an executor keeps
    what its futures have been given."""
    tasks_per_child: int | None = key(None, optional(whole(1, 1_000_000_000), "no limit"), read_whole)
    """Tasks after which the worker's child is made anew."""
    max_output: int = key(16384, whole(0, 1 << 19), read_whole)
    """Bytes that are kept of what a task prints: its end."""
    ship: tuple[str, ...] | bool = key((), checks.ship, read_ship)
    """Files, folders and own modules that travel besides what is found by itself; False: nothing of them does."""
    packages: tuple[str, ...] | str | bool | None = key(None, optional(checks.packages, "none"), read_packages)
    """Installed packages that are brought along: True for what the code imports, requirements, or a file of them."""
    trusted: bool = key(True, checks.flag, read_flag)
    """May results be objects of any kind, whose loading runs code."""

    def __post_init__(self) -> None:
        for name, known in KEYS.items():
            object.__setattr__(self, name, checked(known, getattr(self, name)))
        for raised, needed in (("on_oom", "memory"), ("on_walltime", "time")):
            if getattr(self, raised) is not None and getattr(self, needed) is None:
                raise ConfigError(f"{raised} raises what {needed} says: give {needed} too")
        if self.host is None and self.link == "relay":
            raise ConfigError("link is 'relay', and there is no host for one: set the option host, or leave link out")
        if self.shell is not None and self.python != checks.AUTO:
            raise ConfigError(
                f"shell is {self.shell!r}, a Python of the host, and python {self.python!r}, one to be found there or "
                "brought along: give one of them"
            )

    @property
    def memory_bytes(self) -> int | None:
        """What memory says, in bytes."""
        return None if self.memory is None else parse_size(self.memory)

    @property
    def memory_limit(self) -> int | None:
        """The most bytes of address space a task may have: memory's, or else those of -l mem_grab."""
        return qsub.memory(self.ge_opts) if self.memory is None else self.memory_bytes

    @property
    def time_seconds(self) -> int | None:
        """What time says, in seconds."""
        return None if self.time is None else parse_time(self.time)

    @property
    def keep_seconds(self) -> int:
        """What keep says, or 30 days, in seconds."""
        return parse_time(self.keep or "30d")

    @property
    def walltime(self) -> int | None:
        """The seconds that the scheduler gives a worker, as far as the options say; None: unknown.

        That is what time says, or else -l h_rt or -l s_rt in ge_opts, or --time in slurm_opts.
        """
        if self.time is not None:
            return self.time_seconds
        limits = (qsub.walltime(self.ge_opts), sbatch.walltime(self.slurm_opts))
        return min((limit for limit in limits if limit is not None), default=None)

    def raised(self, level: int) -> Config:
        """Return this with its resources raised so often, as on_oom and on_walltime say."""
        if not level:
            return self
        said: dict[str, Any] = {}
        if self.on_oom is not None and self.memory_bytes is not None:
            said["memory"] = str(int(self.memory_bytes * parse_factor(self.on_oom) ** level))
        if self.on_walltime is not None and self.time_seconds is not None:
            said["time"] = str(int(self.time_seconds * parse_factor(self.on_walltime) ** level))
        return replace(self, **said)

    def gives(self, *flags: str) -> bool:
        """Tell whether ge_opts hold one of these flags of qsub, such as "-cwd"."""
        return qsub.gives(self.ge_opts, *flags)

    def slurm_opt(self, *flags: str) -> str | None:
        """Return what slurm_opts give with one of these flags of sbatch, the last one if there are several.

        None if they give none of them; an empty text for a flag without a value.
        """
        return sbatch.given(self.slurm_opts, *flags)

    @property
    def version(self) -> str:
        """The version that python says; empty if it says none."""
        return self.python if re.fullmatch(checks.VERSION, self.python) else ""

    @property
    def brings(self) -> str:
        """The archive or folder that python says; empty if it says none."""
        return "" if self.python == checks.AUTO or self.version else self.python

    def command(self, scheduler: str) -> str:
        """Give the command of the worker's Python, as far as it is known without a look at the host.

        That is words quoted for a shell, which finds nothing else in them.
        """
        if self.shell is not None:
            first, *more = shlex.split(self.shell)
            home = re.match(r"(~|\$HOME|\$\{HOME\})/", first)
            rest = first[home.end() :] if home else first
            return " ".join([('"$HOME"/' if home else "") + shlex.quote(rest), *map(shlex.quote, more)])
        if scheduler == "local" and self.host is None and sys.executable:
            return shlex.quote(sys.executable)
        return "python3" if self.setup else "/usr/bin/python3"  # setup may have chosen one


KEYS: dict[str, Field[Any]] = {each.name: each for each in fields(Config)}
"""The keys of the configuration, in its order."""


def checked(known: Field[Any], value: object, where: str = "") -> object:
    """Return the value to keep for a key. Raises ConfigError, which tells where the value stands."""
    try:
        return known.metadata["check"](value)
    except ValueError as error:
        raise ConfigError(f"{known.name}{where} is {short(value)}; it {error}") from None
