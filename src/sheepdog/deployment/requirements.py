"""Requirements: what a list, or a file of them, asks for, as far as that can be told without resolving it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import ConfigError

BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")  # as the standard has it
ELSEWHERE = frozenset(
    ("path", "directory", "vcs", "git", "archive", "workspace", "editable", "subdirectory", "dynamic")
)
"""Keys of a TOML file by which it names what is not in it, and may change."""
HARMLESS = re.compile(
    r"(-i|--index-url|--extra-index-url|--no-index|--pre|--prefer-binary|--only-binary|--no-binary|--trusted-host"
    r"|--require-hashes|--use-feature)\b"
)
LOCKS = {
    "uv.lock": "uv export --no-emit-project -o pylock.toml",
    "poetry.lock": "poetry export -o requirements.txt",
    "pdm.lock": "pdm export -o requirements.txt",
    "Pipfile.lock": "pipenv requirements >requirements.txt",
}
"""Files of which installers know nothing, and what makes of each one that they know."""
INNER = re.compile(r"(?:-r|--requirements?)[\s=]*(.+)")


@dataclass(frozen=True, slots=True)
class Listed:
    """What is asked for. whole: no file, folder or repository is named whose content may change."""

    requirements: tuple[str, ...]
    whole: bool = True


def in_list(items: Iterable[str]) -> Listed:
    """Return what a list asks for."""
    given = tuple(items)
    return Listed(given, all(map(_is_plain, given)))


def in_file(path: Path) -> Listed:
    """Return what a file asks for, and the files of requirements that it names.

    Raises ConfigError if it is of a kind that installers do not know.
    """
    if path.name in LOCKS:
        written = re.split("[ >]", LOCKS[path.name])[-1]
        raise ConfigError(f"packages: no installer reads {path}. Name {written}, which this writes: {LOCKS[path.name]}")
    if path.suffix in (".yml", ".yaml"):
        raise ConfigError(f"packages: {path} is no file of requirements: name what is to come in packages=[...]")
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".toml":
        return _in_toml(text)
    if path.suffix in (".py", ".pyw") and path.name != "setup.py":
        found = BLOCK.search(text)
        return _in_toml(re.sub("(?m)^# ?", "", found["content"]) if found else "")
    if path.name in ("setup.py", "setup.cfg"):
        return Listed((), whole=False)
    return _in_lines(path, text, set())


def _in_lines(path: Path, text: str, seen: set[Path]) -> Listed:
    seen.add(path)
    found: list[str] = []
    whole = True
    for line in text.replace("\\\n", " ").splitlines():
        asked = re.sub(r"(^|\s)#.*", "", line).strip()
        inner = INNER.match(asked)
        if inner:
            other = path.parent / inner[1]
            with suppress(OSError):
                if other not in seen:
                    found += _in_lines(other, other.read_text(encoding="utf-8", errors="replace"), seen).requirements
        asked = re.sub(r"\s+--(hash|config-settings?)\b.*", "", asked)
        if not asked or HARMLESS.match(asked):
            whole = whole and "$" not in asked
        elif _is_plain(asked):
            found.append(asked)
        else:
            whole = False
            found += () if asked.startswith("-") else [asked]
    return Listed(tuple(found), whole)


def _in_toml(text: str) -> Listed:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # which uv will say
        return Listed((), whole=False)
    if "lock-version" in content:
        found = [_locked(each) for each in content.get("packages", ()) if isinstance(each, dict)]
    else:
        found = [*content.get("dependencies", ()), *content.get("project", {}).get("dependencies", ())]
    return Listed(tuple(map(str, found)), all(_is_plain(str(each)) for each in found) and not _points(content))


def _locked(package: Mapping[str, Any]) -> str:
    version = f"=={package['version']}" if "version" in package else ""
    marker = f"; {package['marker']}" if "marker" in package else ""
    return f"{package.get('name')}{version}{marker}"


def _points(value: object) -> bool:
    """Tell whether what a TOML file holds names something that is not in it."""
    if isinstance(value, dict):
        return not ELSEWHERE.isdisjoint(value) or any(map(_points, value.values()))
    if isinstance(value, list):
        return any(map(_points, value))
    return isinstance(value, str) and ("file:" in value or "git+" in value)


def _is_plain(requirement: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(requirement).url is None
    except InvalidRequirement:
        return False


def settings() -> list[str]:
    """Return what says from where uv fetches, and what it may take: its variables, and the content of its files."""
    found = []
    for name, value in sorted(os.environ.items()):
        if name.startswith("UV_") and name != "UV_CACHE_DIR":
            found.append(f"{name}={value}")
            with suppress(ValueError):
                found += [_digest(Path(each)) for each in shlex.split(value)]
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    system = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    places = [*(Path(each).expanduser() / "uv" for each in (home, *system)), Path("/etc/uv")]
    above = [Path.cwd(), *Path.cwd().parents]
    found += [_digest(place / "uv.toml") for place in (*places, *above)]
    for place in above:
        with suppress(OSError, ValueError):
            project = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))
            found.append(repr(project.get("tool", {}).get("uv")))
    return found


def _digest(path: Path) -> str:
    """Return what a file's content is known by; nothing if there is none."""
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return ""


def unmet(requirements: Iterable[str]) -> list[str]:
    """Return the requirements that are not met by what is installed for the Python that runs here.

    What names no package, such as a path, is not known to be unmet.
    """
    return [each for each in requirements if not _is_met(each)]


def _is_met(text: str) -> bool:
    from packaging.markers import UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        asked = Requirement(text)
        if asked.marker is not None and not asked.marker.evaluate():
            return True
    except (InvalidRequirement, UndefinedEnvironmentName):
        return True
    try:
        return asked.specifier.contains(metadata.version(asked.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False
