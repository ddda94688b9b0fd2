"""Installed packages: which files of a folder pip or its like have put there, and of which distribution."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

PLACES = ("site-packages", "dist-packages")  # where installers put things, whatever is above

SYSTEM = ("/usr/lib/", "/usr/lib64/", "/usr/share/")  # where a system's own packages lie


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution: its name and version, and the folder or file that says so."""

    name: str
    version: str
    metadata: str
    project: str = ""
    """The folder of the user's own that it stands for, if it is an editable install."""


def is_installed(file: str, root: str) -> bool:
    """Tell whether a module's file was put where it is by an installer. root is the entry of sys.path that it is below.

    So is all that is in site-packages or dist-packages, but for links from there to elsewhere that no distribution
    lists: `flit install --symlink` makes such, and people do. uv makes links of single files, which are listed.
    """
    if file.startswith(SYSTEM):
        return True
    if any(part in PLACES for part in root.split("/")):
        top = os.path.join(root, os.path.relpath(file, root).split("/")[0])
        return not os.path.islink(top) or _in_place(os.path.realpath(top)) or distribution_of(file, root) is not None
    if root.endswith(".egg") or os.path.isdir(os.path.join(root, "EGG-INFO")):
        return True
    return distribution_of(file, root) is not None


def _in_place(path: str) -> bool:
    return any(part in PLACES for part in path.split("/"))


def distribution_of(file: str, root: str) -> Distribution | None:
    """Return the distribution that lists a file below this root; None if none does. Editable installs list none."""
    folder = _folder(root)
    if folder is None:
        return None
    wanted = os.path.relpath(file, root)
    top = wanted.split("/")[0].partition(".")[0]
    likely = [each for each in folder if _plain(each.name) == _plain(top)]
    for each in (*likely, *folder):
        if not each.project and wanted in _files(each.metadata):
            return each
    return None


def editables(root: str) -> list[Distribution]:
    """Return the editable installs that a folder names."""
    return [each for each in _folder(root) or () if each.project]


def _folder(root: str) -> tuple[Distribution, ...] | None:
    """Return the distributions of a folder, read anew when something was installed; None if there are none."""
    try:
        return _distributions(root, os.stat(root).st_mtime_ns) or None
    except OSError:
        return None


@functools.lru_cache(64)
def _distributions(root: str, _: int) -> tuple[Distribution, ...]:
    if not os.path.isdir(root):
        return ()
    return tuple(_read(root, entry) for entry in sorted(os.listdir(root)) if _is_metadata(root, entry))


def _is_metadata(root: str, entry: str) -> bool:
    if entry.endswith(".dist-info"):
        return True
    # `setup.py develop` and builds leave an egg-info beside the sources, which lists none of what is installed.
    return entry.endswith(".egg-info") and os.path.exists(os.path.join(root, entry, "installed-files.txt"))


def _read(root: str, entry: str) -> Distribution:
    name, _, rest = entry.rpartition(".")[0].partition("-")
    version = re.split(r"-py\d", rest)[0]
    metadata = os.path.join(root, entry)
    project = ""
    try:
        with open(os.path.join(metadata, "direct_url.json"), encoding="utf-8") as file:
            direct = json.load(file)
        if direct.get("dir_info", {}).get("editable"):
            project = unquote(urlsplit(direct["url"]).path).rstrip("/")
    except (OSError, ValueError, KeyError, AttributeError):
        pass
    return Distribution(name, version, metadata, project)


@functools.lru_cache(4096)
def _files(metadata: str) -> frozenset[str]:
    """Return the files that a distribution lists, from the folder in which its metadata is."""
    return frozenset(_listed(metadata))


def _listed(metadata: str) -> Iterator[str]:
    import csv  # not everybody needs it

    try:
        with open(os.path.join(metadata, "RECORD"), encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                if row:
                    yield row[0]
    except (OSError, ValueError, csv.Error):
        pass
    else:
        return
    try:
        with open(os.path.join(metadata, "installed-files.txt"), encoding="utf-8") as file:
            for line in file:
                yield os.path.normpath(os.path.join(os.path.basename(metadata), line.strip()))
    except (OSError, ValueError):
        pass


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
