"""Installed packages: whether those that the tasks need are here, and which version of each. Nothing is imported."""

import importlib.machinery
import importlib.util
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Lacking = list[list[str]]  # of a package: its name; the version that is here, "?" if that is not known, "" if it is
    # not here; and the module of it that is not


def look(wanted: "Sequence[Any]", folders: "Sequence[str]" = ()) -> "tuple[Lacking, Lacking]":
    """Return which packages are not here that tasks need for certain, and which others are not, or differ.

    wanted: see bundle/packages.py. folders are those in which modules are looked for besides.
    """
    lacking, others = [], []  # type: Lacking, Lacking
    before = list(sys.path)
    sys.path[1:1] = folders
    try:
        for name, distribution, version, certain, _, modules in wanted:
            spec = find(name)
            if spec is None:
                (lacking if certain else others).append([name, "", ""])
                continue
            here = version_of(spec, distribution or name) if version else ""
            if here != version:
                absent = next((module for module in modules if find(module) is None), "")
                if here or absent:
                    (lacking if absent else others).append([name, here or "?", absent])
    finally:
        sys.path[:] = before
    return lacking, others


def folders_of(directory: str, paths: "Sequence[str]") -> "list[str]":
    """Return where packages lie that were brought along, for the array job of this directory."""
    above = os.path.dirname(os.path.abspath(directory))
    return [os.path.join(above, path) for path in paths]


def find(name: str) -> "Any":
    """Return where a module is; None if it is not here. The packages above it are not imported."""
    top, _, rest = name.partition(".")
    try:
        spec = importlib.util.find_spec(top)
    except Exception:  # one that was imported otherwise, or a finder that fails
        return sys.modules.get(top)
    for number, _ in enumerate(rest.split(".") if rest else (), 2):
        places = getattr(spec, "submodule_search_locations", None)
        if places is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(".".join(name.split(".")[:number]), list(places))
    return spec


def version_of(spec: "Any", distribution: str) -> str:
    """Return the version that was installed beside a module; nothing if nothing there tells."""
    places = getattr(spec, "submodule_search_locations", None)
    file = next(iter(places)) if places else getattr(spec, "origin", None)
    if not file:
        return ""
    start = plain(distribution) + "-"
    try:
        entries = os.listdir(os.path.dirname(file))
    except OSError:
        return ""
    for entry in entries:
        stem, _, kind = entry.rpartition(".")
        if kind in ("dist-info", "egg-info") and plain(stem).startswith(start):
            name, _, version = re.sub(r"-py\d[\d.]*$", "", stem).rpartition("-")
            if plain(name) == plain(distribution):
                return version
    return ""


def plain(name: str) -> str:
    """Return a distribution's name as all ways to write it have it in common."""
    return re.sub(r"[-_.]+", "-", name).lower()
