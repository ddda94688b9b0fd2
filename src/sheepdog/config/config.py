"""Make one checked Config out of what the call, the environment and the files say.

    a call's dict  >  SHEEPDOG_<KEY>  >  the profile  >  ./sheepdog.toml  >  ~/.config/sheepdog/config.toml  >  defaults

A file holds keys at its top level and profiles in tables: [profiles.NAME]. When both files have a profile of
that name, the project's wins key by key. A list such as ge_opts is replaced, never joined.
"""

import os
import re
import shlex
import sys
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError, SchedulerNotFound
from .registry import SCHEDULERS

TASK_VARIABLES = ("SHEEPDOG_REQUEST_ID", "SHEEPDOG_TASK_INDEX", "SHEEPDOG_ATTEMPT")
"""Set inside a task, for the user's function to read; they configure nothing."""

_PREFIX = "SHEEPDOG_"

T = TypeVar("T")

Said = dict[str, tuple[object, str]]
"""What one source says: for each key its value, and where it stands, in words for an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How to run: every value is checked, and a wrong one is a ConfigError."""

    host: str | None = None  # the machine to ssh to in order to run qsub
    ssh_port: int | None = None
    ssh_user: str | None = None
    ssh_keyfile: str | None = None  # ~ is expanded at use
    ssh_dir: str = ".sheepdog"  # for job files; relative to the remote home directory
    dbfile: str = "./sheepdog.sqlite"
    port: int | None = None  # of the server; None: a free one
    localhost: str | None = None  # this machine's name, as workers reach it; None: the FQDN
    shell: str | None = None  # the worker's Python; see python()
    ge_opts: tuple[str, ...] = ()  # options of qsub, one "#$" line each
    slurm_opts: tuple[str, ...] = ()  # options of sbatch, one "#SBATCH" line each
    scheduler: str | None = None  # one of SCHEDULERS; None: see choose_scheduler
    workers: int | None = None  # None: one per task up to 1000 on a cluster, one per core locally
    name: str | None = None  # the array job's, for all to see on the cluster
    queue: str | None = None  # Slurm calls it a partition
    cpus: int | None = None  # of one worker
    gpus: int | None = None  # of one worker
    memory: str | None = None  # of one worker, such as "2G"; see memory_bytes
    memory_resource: str | None = None  # what this Grid Engine site calls memory after -l; None: it is asked
    gpu_resource: str | None = None  # ... and GPUs
    parallel_environment: str | None = None  # ... and the one whose slots are all on one host
    patience: float = 86400.0  # seconds a worker keeps trying to deliver outcomes
    lease: float = 150.0  # seconds without a heartbeat after which a worker counts as lost
    poll_interval: float = 30.0  # seconds at least between two status queries to a head node
    time: str | None = None  # of one worker, such as "2h"; see time_seconds
    timeout: float | None = None  # seconds that a task may run
    retries: int = 0  # of a task that raised, died or ran into its timeout
    retry_delay: float = 5.0  # seconds before the first retry; twice as long before each other one
    max_losses: int = 3  # workers that a task may lose before it is given up
    on_oom: str | None = None  # such as "2x": the memory of the next attempt
    on_walltime: str | None = None  # such as "2x": the time of the next attempt
    resubmissions: int = 3  # of workers that ended too early: in a row, each without an outcome or within ten minutes
    fail_fast: int = 20  # first tasks that fail alike and so end the request; 0: never
    idle_time: float = 600.0  # seconds without a call after which an executor's workers end
    tasks_per_child: int | None = None  # tasks after which the worker's child is made anew
    trusted: bool = True  # may results be objects of any kind, whose loading runs code

    def __post_init__(self) -> None:
        for key in CHECKS:
            object.__setattr__(self, key, _checked(key, getattr(self, key)))
        for key, needed in (("on_oom", "memory"), ("on_walltime", "time")):
            if getattr(self, key) is not None and getattr(self, needed) is None:
                raise ConfigError(f"{key} raises what {needed} says: give {needed} too")

    @classmethod
    def as_stored(cls, values: Mapping[str, Any]) -> "Config":
        """Make a Config of values that a version of any age has stored: a key that it lacks has its default.

        Keys that are not known are left out. A value that would be refused now was good when it was stored: it stays.
        """
        made = object.__new__(cls)
        for field in fields(cls):
            value = values.get(field.name, field.default)
            try:
                value = CHECKS[field.name](value)
            except ValueError:
                value = tuple(value) if isinstance(value, list) else value
            object.__setattr__(made, field.name, value)
        return made

    @property
    def memory_bytes(self) -> int | None:
        """What memory says, in bytes."""
        return None if self.memory is None else parse_size(self.memory)

    @property
    def memory_limit(self) -> int | None:
        """The most bytes of address space a task may have: memory's, or else those of -l mem_grab."""
        return _mem_grab(self.ge_opts) if self.memory is None else self.memory_bytes

    @property
    def time_seconds(self) -> int | None:
        """What time says, in seconds."""
        return None if self.time is None else parse_time(self.time)

    @property
    def walltime(self) -> int | None:
        """The seconds that the scheduler gives a worker, as far as the options say; None: unknown.

        That is what time says, or else -l h_rt or -l s_rt in ge_opts, or --time in slurm_opts.
        """
        if self.time is not None:
            return self.time_seconds
        limits = [_resource(self.ge_opts, name, _limit) for name in ("h_rt", "s_rt")]
        limits.append(_slurm_time(self.slurm_opt("-t", "--time") or ""))
        return min(filter(None, limits), default=None)

    def raised(self, level: int) -> "Config":
        """Return this with its resources raised so often, as on_oom and on_walltime say."""
        if not level:
            return self
        said: dict[str, Any] = {}
        if self.on_oom is not None and self.memory_bytes is not None:
            said["memory"] = str(int(self.memory_bytes * float(self.on_oom[:-1]) ** level))
        if self.on_walltime is not None and self.time_seconds is not None:
            said["time"] = str(int(self.time_seconds * float(self.on_walltime[:-1]) ** level))
        return replace(self, **said)

    def gives(self, *flags: str) -> bool:
        """Tell whether ge_opts hold one of these flags of qsub, such as "-cwd"."""
        return any(word in flags for word in _words(self.ge_opts))

    def slurm_opt(self, *flags: str) -> str | None:
        """Return what slurm_opts give with one of these flags of sbatch, the last one if there are several.

        None if they give none of them; an empty text for a flag without a value.
        """
        given = [value for option in self.slurm_opts for flag, value in _slurm_words(option) if flag in flags]
        return given[-1] if given else None

    def python(self, scheduler: str) -> str:
        """Give the command of the worker's Python: words quoted for a shell, which finds nothing else in them."""
        if self.shell is not None:
            first, *more = shlex.split(self.shell)
            home = re.match(r"(~|\$HOME|\$\{HOME\})/", first)
            rest = first[home.end() :] if home else first
            return " ".join([('"$HOME"/' if home else "") + shlex.quote(rest), *map(shlex.quote, more)])
        if scheduler == "local" and self.host is None and sys.executable:
            return shlex.quote(sys.executable)
        return "/usr/bin/python3"


def make_config(
    config: Mapping[str, Any] | str | Config | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Config:
    """Read the sources and make a Config of them.

    config is a dict of keys, perhaps with "profile" among them; or a profile's name; or a Config, which
    comes back as it is. The keyword arguments stand for this process's environment, current directory and
    home directory. Only the value that wins is checked.
    """
    if isinstance(config, Config):
        return config
    environ = os.environ if environ is None else environ
    said = {**_variables(environ), **_call(config)}
    profile, named_in = said.pop("profile", (None, ""))
    # The user's file first: later ones win.
    files = [_read_file(path) for path in (_user_path(environ, home), _project_path(directory)) if path]
    if profile is not None:
        said = {**_profile(profile, named_in, files), **said}
    for file in reversed(files):
        said = {**file.top, **said}
    values: dict[str, Any] = {key: _checked(key, value, where) for key, (value, where) in said.items()}
    return Config(**values)


def choose_scheduler(
    config: Config,
    environ: Mapping[str, str] | None = None,
    which: Callable[[str], object] | None = None,
    on_host: Callable[[], Container[str]] | None = None,
) -> tuple[str, str]:
    """Give the name of the scheduler to use, and the reason in words.

    which finds a program on this machine; on_host says which of PROGRAMS the host has, and is called only if that
    decides. Raises SchedulerNotFound if it has neither Grid Engine nor Slurm.
    """
    if config.scheduler is not None:
        return config.scheduler, "the configuration says so"
    if config.host is not None:
        if on_host is None:
            return "gridengine", f"the host {config.host} is given"
        there = on_host()
        # Slurm comes with a qsub of its own for those who are used to one, and PBS has one; only Grid Engine has qconf.
        if "qsub" in there and ("qconf" in there or "sbatch" not in there):
            return "gridengine", f"{config.host} has qsub"
        if "sbatch" in there:
            return "slurm", f"{config.host} has sbatch{' and no qconf' if 'qsub' in there else ' and no qsub'}"
        raise SchedulerNotFound(
            f"there is no qsub on {config.host}, and no sbatch. If there is after a login, put what sets its PATH up "
            f"into the shell's start-up file, so that `ssh {config.host} qstat` or `ssh {config.host} squeue` works. "
            'For processes on that machine itself, say {"scheduler": "local"}'
        )
    if which is None:
        import shutil

        which = shutil.which
    environ = os.environ if environ is None else environ
    if which("qsub") and environ.get("SGE_ROOT"):
        return "gridengine", "qsub is on PATH and SGE_ROOT is set"
    no_qsub = "SGE_ROOT is not set" if which("qsub") else "qsub is not on PATH"
    sbatch = which("sbatch")
    if sbatch and (found := next(filter(os.path.exists, _slurm_confs(str(sbatch), environ)), None)):
        return "slurm", f"sbatch is on PATH with {found}, and {no_qsub}"
    no_sbatch = "sbatch is on PATH, but no slurm.conf is found" if sbatch else "sbatch is not on PATH"
    return "local", f"no host is given, {no_qsub}, and {no_sbatch}"


def _slurm_confs(sbatch: str, environ: Mapping[str, str]) -> list[str]:
    """Give where Slurm's configuration may be, if it is set up: its commands alone may be on any machine."""
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(sbatch)))
    places = [f"{prefix}/etc", f"{prefix}/etc/slurm", "/etc/slurm", "/etc/slurm-llnl", "/run/slurm/conf"]
    return [*filter(None, [environ.get("SLURM_CONF")]), *(f"{place}/slurm.conf" for place in places)]


PROGRAMS = ("qsub", "qconf", "sbatch")


# The sources


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    top: Said
    profiles: dict[str, dict[str, object]]


def _call(config: object) -> Said:
    if config is None:
        return {}
    if isinstance(config, str):
        return {"profile": (config, "")}
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"the configuration is {_short(config)}; it must be a dict of keys, the name of a profile, "
            "a Config, or left out"
        )
    for key in config:
        if not isinstance(key, str):
            raise ConfigError(f"a key of the configuration is {_short(key)}; it must be a string")
        _require_known(key, [*CHECKS, "profile"])
    return {key: (value, "") for key, value in config.items()}


def _variables(environ: Mapping[str, str]) -> Said:
    known = {_PREFIX + key.upper(): key for key in [*CHECKS, "profile"]}
    said: Said = {}
    for variable, text in environ.items():
        if variable.startswith(_PREFIX) and variable not in TASK_VARIABLES and text:
            _require_known(variable, list(known), "variable")
            key = known[variable]
            said[key] = (_parse_text(key, text), f" in the variable {variable}")
    return said


def _parse_text(key: str, text: str) -> object:
    """Give what a variable's text means; where it means nothing the text itself, for the check to refuse."""
    if key.endswith("_opts"):
        return [option.strip() for option in re.split("[;\n]", text) if option.strip()]
    try:
        if key in WHOLE:
            return int(text)
        if key in NUMBERS:
            return float(text)
        if key == "trusted":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
    except (ValueError, KeyError):
        pass
    return text


WHOLE = (
    "ssh_port",
    "port",
    "workers",
    "cpus",
    "gpus",
    "retries",
    "max_losses",
    "resubmissions",
    "fail_fast",
    "tasks_per_child",
)
NUMBERS = ("patience", "lease", "poll_interval", "timeout", "retry_delay", "idle_time")


def _project_path(directory: str | os.PathLike[str] | None) -> Path:
    return Path(directory or "") / "sheepdog.toml"


def _user_path(environ: Mapping[str, str], home: str | os.PathLike[str] | None) -> Path | None:
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():  # the XDG specification: a relative path is to be ignored
        try:
            base = Path(home or Path.home()) / ".config"
        except RuntimeError:  # a container may run under a user id that has no home
            return None
    return base / "sheepdog" / "config.toml"


def _read_file(path: Path) -> _File:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return _File(path, {}, {})
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error

    import tomllib

    try:
        # In a last line without its newline tomllib would say "at end of document", not which line.
        table = tomllib.loads(content.decode() + "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} is not UTF-8 text (at line {line})") from error
    except ValueError as error:  # tomllib.TOMLDecodeError, or a number of too many digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    profiles = table.pop("profiles", {})
    if not isinstance(profiles, dict):
        raise ConfigError(f"profiles in {path} is {_short(profiles)}; it must be tables: [profiles.NAME]")
    for name, profile in profiles.items():
        if not isinstance(profile, dict):
            raise ConfigError(f"the profile {name} in {path} is {_short(profile)}; it must be a table")
    return _File(path, _said(table, f" in {path}", [*CHECKS, "profiles"]), profiles)


def _profile(name: object, named_in: str, files: list[_File]) -> Said:
    if not isinstance(name, str):
        raise ConfigError(f"profile is {_short(name)}; it must be the name of a profile, or left out")
    holders = [file for file in files if name in file.profiles]
    if not holders:
        known = sorted({profile for file in files for profile in file.profiles})
        raise ConfigError(
            f"profile{named_in} is {_short(name)}; the known ones are {', '.join(known) or 'none'} "
            f"(in {' and '.join(str(file.path) for file in files)}). "
            f'A host is written {{"host": "{name}"}}'
        )
    said: Said = {}
    for file in holders:
        said |= _said(file.profiles[name], f" in [profiles.{name}] of {file.path}", list(CHECKS))
    return said


def _said(table: Mapping[str, object], where: str, known: list[str]) -> Said:
    for key in table:
        _require_known(key, known, where=where)
    return {key: (value, where) for key, value in table.items()}


def _require_known(key: str, known: list[str], noun: str = "key", where: str = "") -> None:
    if key in known:
        return
    from difflib import get_close_matches

    alike = {name.lower(): name for name in known}
    cutoff = 0.6 if noun == "key" else 0.8  # the prefix alone makes any two variables alike
    near = get_close_matches(key.lower(), alike, n=1, cutoff=cutoff)
    hint = f"did you mean {alike[near[0]]}?" if near else f"the known ones are {', '.join(sorted(known))}"
    raise ConfigError(f"{_short(key)}{where} is not a known {noun}; {hint}")


# The values


def parse_size(text: str) -> int:
    """Turn a size such as "2G" into bytes. Units are k, m, g and t in either case, powers of 1024."""
    match = re.fullmatch("([0-9]{1,18})([kKmMgGtT]?)", text)
    size = int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0
    if not 0 < size < 2**63:  # what setrlimit takes
        raise ValueError(f"must be {_SIZE}")
    return size


def parse_time(text: str) -> int:
    """Turn a time such as "90m", "1:30:00" or "5400" into seconds. Units are s, m, h and d."""
    match = re.fullmatch("([0-9]{1,9})([smhdSMHD]?)", text)
    clock = re.fullmatch("([0-9]{1,6}):([0-5]?[0-9]):([0-5]?[0-9])", text)
    seconds = 0
    if match:
        seconds = int(match[1]) * {"S": 1, "M": 60, "H": 3600, "D": 86400}[match[2].upper() or "S"]
    elif clock:
        seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3])
    if seconds < 1:
        raise ValueError(f"must be {_TIME}")
    return seconds


_TIME = 'a whole number of seconds, or one with a unit s, m, h or d, such as "2h", or "2:00:00"'
_SIZE = 'a whole number of bytes, or one with a unit k, m, g or t, such as "2G"'

Check = Callable[[object], object]
"""Takes a value and gives the one to keep, or raises ValueError with what is allowed."""


def _checked(key: str, value: object, where: str = "") -> object:
    try:
        return CHECKS[key](value)
    except ValueError as error:
        raise ConfigError(f"{key}{where} is {_short(value)}; it {error}") from None


def _short(value: object) -> str:
    from reprlib import Repr

    shortener = Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = 60
    return shortener.repr(value)


def _optional(check: Check, absent: str) -> Check:
    """Let None pass as well; absent says what leaving the key out means."""

    def checked(value: object) -> object:
        try:
            return None if value is None else check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or left out for {absent}") from None

    return checked


def _whole(lowest: int, highest: int) -> Check:
    def check(value: object) -> int:
        if type(value) is not int or not lowest <= value <= highest:  # True is an int, too
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return value

    return check


def _seconds(allowed: str, lowest: float) -> Check:
    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= 1e9:
            raise ValueError(f"must be a number of seconds, {allowed} and at most 1000000000")
        return float(value)

    return check


def _text(allowed: str, fits: Callable[[str], object]) -> Check:
    def check(value: object) -> str:
        if not isinstance(value, str) or not fits(value):
            raise ValueError(f"must be {allowed}")
        return value

    return check


def _pattern(allowed: str, pattern: str) -> Check:
    # re caches what it compiles; to compile here would slow the import down.
    return _text(allowed, lambda text: re.fullmatch(pattern, text, re.ASCII))


def _path(check: Check) -> Check:
    return lambda value: check(os.fspath(value) if isinstance(value, os.PathLike) else value)


def _ssh_dir(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w./+@-]+", value, re.ASCII):
        raise ValueError(
            "must be a directory on the host, absolute or relative to the home directory (without ~), "
            "of letters, digits and . _ - + @ / only"
        )
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ValueError('must be a directory below / or below the home directory, without ".."')
    path = "/" * value.startswith("/") + "/".join(parts)
    if path.startswith("-"):
        raise ValueError('must not begin with "-"')
    return path


def _dbfile(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a file")
    if value == ":memory:":
        raise ValueError("must be a file: the server is another process, and could not see this memory")
    return value


def _time(value: object) -> str:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or parse_time(text) < 1:
        raise ValueError(f"must be {_TIME}")
    return text


def _factor(value: object) -> str:
    match = re.fullmatch("([0-9]{1,2}(?:[.][0-9]{1,2})?)x", value) if isinstance(value, str) else None
    if match is None or not 1 < float(match[1]) <= 10:
        raise ValueError('must be a factor above 1 and at most 10, such as "2x"')
    return match[0]


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")  # noqa: TRY004
    return value


def _memory(value: object) -> str:
    text = str(value) if type(value) is int else value
    # The smallest Python takes more: who says 2 means "2G".
    if not isinstance(text, str) or parse_size(text) < 1024**2:
        raise ValueError(f"must be {_SIZE}, and at least 1M")
    return text.upper()


_REFUSED_SLURM = {
    "--array": "use the key workers",
    "-a": "use the key workers",
    "--job-name": "use the key name",
    "-J": "use the key name",
    "--clusters": "use the key host",
    "-M": "use the key host",
    "--parsable": "Sheepdog sets it itself",
    "--wait": "Sheepdog waits itself",
    "-W": "Sheepdog waits itself",
    "--wrap": "Sheepdog submits its workers",
    "--test-only": "nothing would be submitted",
}

_BARE = "hHIkOQsvVWX"  # the letters of sbatch's flags without a value: others may follow in the same word


def _slurm_opts(value: object) -> tuple[str, ...]:
    options = _opts(value, "sbatch", "--time=60")
    for option in options:
        for flag, _ in _slurm_words(option):
            for refused, why in _REFUSED_SLURM.items():
                # sbatch takes the beginning of a long option for the whole, and what follows a short one for its value.
                short = len(refused) == 2 and flag == refused
                if short or (flag.startswith("--") and len(flag) > 3 and refused.startswith(flag)):
                    raise ValueError(f"must not hold {refused}: {why}")
        flags = [flag for flag, _ in _slurm_words(option)]
        if len(flags) > 1 and {"-D", "--chdir"} & {*flags}:
            raise ValueError(f"must hold --chdir in a line of its own; not {_short(option)}")
    return options


def _slurm_words(option: str) -> list[tuple[str, str]]:
    """Return the flags of a line of options of sbatch, each with its value."""
    found: list[tuple[str, str]] = []
    for word in shlex.split(option):
        if word.startswith("--"):
            flag, _, text = word.partition("=")
            found.append((flag, text))
        elif word.startswith("-"):
            while len(word) > 2 and word[1] in _BARE:
                found.append((word[:2], ""))
                word = "-" + word[2:]
            found.append((word[:2], word[2:]))
        elif found and not found[-1][1]:
            found[-1] = (found[-1][0], word)
    return found


def _slurm_time(text: str) -> int:
    """Give the seconds of sbatch's --time: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; 0 for UNLIMITED and what else."""
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", text)
    if match is None:
        return 0
    days, *parts = (int(part) if part is not None else None for part in match.groups())
    first, second, third = parts
    if days is not None or third is not None:
        hours, minutes, seconds = first or 0, second or 0, third or 0
    else:
        hours, minutes, seconds = 0, first or 0, second or 0
    return (((days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


_REFUSED = {
    "-t": "use the key workers",
    "-N": "use the key name",
    "-S": "use the key shell",
    "-terse": "Sheepdog sets it itself",
    "-sync": "Sheepdog sets it itself",
    "-b": "Sheepdog sets it itself",
}


def _ge_opts(value: object) -> tuple[str, ...]:
    options = _opts(value, "qsub", "-l h_rt=3600")
    for word in _words(options):
        if word in _REFUSED:
            raise ValueError(f"must not hold {word}: {_REFUSED[word]}")
    try:
        _mem_grab(options)
    except ValueError as error:
        raise ValueError(f"holds mem_grab, which {error}") from None
    return options


def _opts(value: object, program: str, example: str) -> tuple[str, ...]:
    """Check raw options: each becomes a line of the job file, so that none may hold another line."""
    if not isinstance(value, list | tuple):
        shown = _short(value) if isinstance(value, str) else repr(example)
        raise ValueError(f"must be a list of options of {program}: write [{shown}]")  # noqa: TRY004
    for option in value:
        if not isinstance(option, str) or not option.startswith("-") or not option.isprintable():
            raise ValueError(
                f'must hold options of {program}: each is one line of text and begins with "-"; not {_short(option)}'
            )
        try:
            shlex.split(option)
        except ValueError:
            raise ValueError(f"must have its quotes closed; not {_short(option)}") from None
    return tuple(value)


def _words(ge_opts: Iterable[str]) -> list[str]:
    return [word for option in ge_opts for word in shlex.split(option)]


def _mem_grab(ge_opts: Iterable[str]) -> int | None:
    """Give the bytes of -l mem_grab=SIZE, the last one if there are several."""
    return _resource(ge_opts, "mem_grab", parse_size)


def _limit(text: str) -> int:
    """Give the seconds of a limit; 0 for INFINITY and whatever else Grid Engine may know."""
    try:
        return parse_time(text)
    except ValueError:
        return 0


def _resource(ge_opts: Iterable[str], wanted: str, parse: Callable[[str], T]) -> T | None:
    """Give what -l NAME=VALUE says, the last one if there are several."""
    found = None
    for flag, resources in pairwise(_words(ge_opts)):
        for resource in resources.split(",") if flag == "-l" else ():
            name, _, text = resource.partition("=")
            if name == wanted:
                found = parse(text)
    return found


_HOST = r"(?!-)[\w.:\[\]-]+"


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


_printable = _text("one line of printable text", lambda text: text.strip() and text.isprintable())
_command = _text("one line of printable text, quoted as for a shell", lambda text: text.isprintable() and _split(text))

_RESOURCE = _pattern("a name of the site's, of letters, digits and . _ - only", r"[A-Za-z_][A-Za-z0-9_.-]*")

CHECKS: dict[str, Check] = {
    "host": _optional(
        _pattern(
            'a host\'s name, of letters, digits and . _ - : [ ] @ only, and not beginning with "-"',
            rf"((?!-)[\w.-]+@)*{_HOST}",
        ),
        "no host",
    ),
    "ssh_port": _optional(_whole(1, 65535), "ssh's own choice"),
    "ssh_user": _optional(
        _pattern(
            'a user\'s name, of letters, digits and . _ - + @ \\ only, and not beginning with "-"',
            r"(?!-)([\w.+@-]+\\)*[\w.+@-]+",
        ),
        "ssh's own choice",
    ),
    "ssh_keyfile": _optional(_path(_printable), "ssh's own choice"),
    "ssh_dir": _ssh_dir,
    "dbfile": _path(_dbfile),
    "port": _optional(_whole(1, 65535), "a free port"),
    "localhost": _optional(
        _pattern("this machine's name, of letters, digits and . _ - : [ ] only", _HOST), "its full name"
    ),
    "shell": _optional(_command, "the usual Python 3"),
    "ge_opts": _ge_opts,
    "slurm_opts": _slurm_opts,
    "scheduler": _optional(
        _text("one of " + ", ".join(f'"{name}"' for name in SCHEDULERS), lambda text: text in SCHEDULERS),
        "the one that fits",
    ),
    "workers": _optional(_whole(1, 100_000), "as many as fit"),
    "name": _optional(
        _pattern("a letter or _ followed by at most 63 letters, digits and . _ -", r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"),
        "one of Sheepdog's",
    ),
    "queue": _optional(
        _pattern("the names of queues, of letters, digits and . _ - @ , only", r"[A-Za-z0-9_@][A-Za-z0-9_.@,-]*"),
        "the site's choice",
    ),
    "cpus": _optional(_whole(1, 10_000), "the site's choice"),
    "gpus": _optional(_whole(1, 1000), "none"),
    "memory": _optional(_memory, "no limit"),
    "memory_resource": _optional(_RESOURCE, "what the site says"),
    "gpu_resource": _optional(_RESOURCE, "what the site says"),
    "parallel_environment": _optional(_RESOURCE, "what the site says"),
    "patience": _seconds("more than 0", 1e-9),
    "lease": _seconds("at least 1", 1),
    "poll_interval": _seconds("at least 1", 1),
    "time": _optional(_time, "no limit"),
    "timeout": _optional(_seconds("more than 0", 1e-3), "no limit"),
    "retries": _whole(0, 1000),
    "retry_delay": _seconds("at least 0", 0),
    "max_losses": _whole(1, 1_000_000),
    "on_oom": _optional(_factor, "no second attempt"),
    "on_walltime": _optional(_factor, "the same time again"),
    "resubmissions": _whole(0, 1000),
    "fail_fast": _whole(0, 1_000_000),
    "idle_time": _seconds("more than 0", 1e-3),
    "tasks_per_child": _optional(_whole(1, 1_000_000_000), "no limit"),
    "trusted": _flag,
}
"""For each key of Config, in its order, what its value must be."""
