"""The sources of a configuration, read into one checked Config.

    a call's dict  >  SHEEPDOG_<KEY>  >  the profile  >  ./sheepdog.toml  >  ~/.config/sheepdog/config.toml  >  defaults

A file holds keys at its top level and profiles in tables: [profiles.NAME]. When both files have a profile of
that name, the project's wins key by key. A list such as ge_opts is replaced, never joined. A file of others is refused:
what it says may run programs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, NotOwnFile
from ..values.ownership import belongs, read_own
from .checks import short
from .config import KEYS, Config, checked

TASK_VARIABLES = ("SHEEPDOG_REQUEST_ID", "SHEEPDOG_TASK_INDEX", "SHEEPDOG_ATTEMPT")
"""Set inside a task, for the user's function to read; they configure nothing."""

_PREFIX = "SHEEPDOG_"

WEIGHTY = ("host", "shell", "python", "setup", "env", "ge_opts", "slurm_opts", "dbfile")
"""Keys that say where programs run, which, and what is stored: the log tells which file has set them."""

log = logging.getLogger("sheepdog")

Said = dict[str, tuple[object, str]]
"""What one source says: for each key its value, and where it stands, in words for an error."""


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
    home directory. Only the value that wins is checked. A call for the local scheduler that names no host means this
    machine, whatever the other sources say.
    """
    if isinstance(config, Config):
        return config
    environ = os.environ if environ is None else environ
    said = {**_variables(environ), **_here(_call(config))}
    profile, named_in = said.pop("profile", (None, ""))
    # The user's file first: later ones win.
    files = [_read_file(path) for path in (_user_path(environ, home), _project_path(directory)) if path]
    if profile is not None:
        said = {**_profile(profile, named_in, files), **said}
    for file in reversed(files):
        said = {**file.top, **said}
    for key in WEIGHTY:
        value, where = said.get(key, (None, ""))
        if where:
            shown = sorted(map(str, value)) if isinstance(value, Mapping) else value  # of variables, the names
            log.info("%s is %s,%s", key, short(shown), where)
    values: dict[str, Any] = {key: checked(KEYS[key], value, where) for key, (value, where) in said.items()}
    return Config(**values)


class _File(NamedTuple):
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
            f"the configuration is {short(config)}; it must be a dict of keys, the name of a profile, "
            "a Config, or left out"
        )
    for key in config:
        if not isinstance(key, str):
            raise ConfigError(f"a key of the configuration is {short(key)}; it must be a string")
        _require_known(key, [*KEYS, "profile"])
    return {key: (value, "") for key, value in config.items()}


def _here(call: Said) -> Said:
    """Return what a call says; of the local scheduler, that no host is meant unless it names one."""
    scheduler, _ = call.get("scheduler", (None, ""))
    return {"host": (None, ""), **call} if scheduler == "local" else call


def _variables(environ: Mapping[str, str]) -> Said:
    known = {_PREFIX + key.upper(): key for key in [*KEYS, "profile"]}
    said: Said = {}
    for variable, text in environ.items():
        if variable.startswith(_PREFIX) and variable not in TASK_VARIABLES and text:
            _require_known(variable, list(known), "variable")
            key = known[variable]
            value = KEYS[key].metadata["read"](text) if key in KEYS else text
            said[key] = (value, f" in the variable {variable}")
    return said


def _project_path(directory: str | os.PathLike[str] | None) -> Path:
    path = Path(directory or "") / "sheepdog.toml"
    with suppress(FileNotFoundError, NotADirectoryError):
        if belongs(os.lstat(path), path):  # a link of one's own is followed; what it leads to must be one's own, too
            return Path(os.path.realpath(path))
    return path


def _user_path(environ: Mapping[str, str], home: str | os.PathLike[str] | None) -> Path | None:
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():  # the XDG specification: a relative path is to be ignored
        try:
            base = Path(home or Path.home()) / ".config"
        except RuntimeError:  # a container may run under a user id that has no home
            return None
    # In one's own home a link is one's own, too; what it leads to must be.
    return Path(os.path.realpath(base / "sheepdog" / "config.toml"))


def _read_file(path: Path) -> _File:
    try:
        content = read_own(path)
    except (FileNotFoundError, NotADirectoryError):
        return _File(path, {}, {})
    except NotOwnFile as error:
        raise ConfigError(f"the configuration is not read: {error}") from error
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
        raise ConfigError(f"profiles in {path} is {short(profiles)}; it must be tables: [profiles.NAME]")
    for name, profile in profiles.items():
        if not isinstance(profile, dict):
            raise ConfigError(f"the profile {name} in {path} is {short(profile)}; it must be a table")
    return _File(path, _said(table, f" in {path}", [*KEYS, "profiles"]), profiles)


def _profile(name: object, named_in: str, files: list[_File]) -> Said:
    if not isinstance(name, str):
        raise ConfigError(f"profile is {short(name)}; it must be the name of a profile, or left out")
    holders = [file for file in files if name in file.profiles]
    if not holders:
        known = sorted({profile for file in files for profile in file.profiles})
        raise ConfigError(
            f"profile{named_in} is {short(name)}; the known ones are {', '.join(known) or 'none'} "
            f"(in {' and '.join(str(file.path) for file in files)}). "
            f'A host is written {{"host": "{name}"}}'
        )
    said: Said = {}
    for file in holders:
        said |= _said(file.profiles[name], f" in [profiles.{name}] of {file.path}", list(KEYS))
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
    raise ConfigError(f"{short(key)}{where} is not a known {noun}; {hint}")
