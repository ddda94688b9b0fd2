"""Installed packages: whether those that the tasks need are here, and which version of each. Nothing is imported."""

import importlib.machinery
import importlib.util
import json
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Lacking = list[list[str]]  # of a package: its name; the version that is here, "?" if that is not known, "" if it is
    # not here; and the module of it that is not


NOTE = "sheepdog.json"
"""In a folder of packages: which Python and machine they are for. machine and libc are empty if any will do."""


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


def misfit(folder: str) -> str:
    """Return what packages that were brought along are for, and what this is, if that is another; else nothing."""
    try:
        with open(os.path.join(folder, NOTE), encoding="utf-8") as file:
            made = json.load(file)
    except (OSError, ValueError):
        return ""
    python, machine, libc = "%d.%d" % sys.version_info[:2], os.uname().machine, libc_here()
    fits = sys.implementation.name == "cpython" and python == made["python"]
    if made["machine"]:
        kind = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
        fits = fits and kind == made["machine"] and is_as_new(libc, made["libc"])
    if fits:
        return ""
    place = " on %s with %s" % (made["machine"], made["libc"]) if made["machine"] else ""
    here = "%s %d.%d.%d" % ((sys.implementation.name,) + sys.version_info[:3])
    return "CPython %s%s, and this is %s (%s) on %s with %s" % (
        made["python"],
        place,
        here,
        sys.executable,
        machine,
        libc,
    )


def libc_here() -> str:
    """Return the C library, such as "glibc 2.36"."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "musl"
    except (ValueError, OSError):
        return "musl"


def is_as_new(here: str, needed: str) -> bool:
    """Tell whether a C library is of the kind that is needed, and as new."""
    (kind, _, version), (other, _, least) = here.partition(" "), needed.partition(" ")
    numbers = [[int(part) for part in re.findall(r"\d+", each)] for each in (version, least)]
    return kind == other and numbers[0] >= numbers[1]


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


def missing(error: str, wanted: "Sequence[str]") -> "list[list[str]]":
    """Return which of the packages that are wanted is not here, by the words of a failed import; as look does."""
    found = re.search(r"No module named '([^']+)'", error)
    for name in wanted if found else ():
        if found and (found.group(1) + ".").startswith(name + "."):
            return [[name, "", ""] if found.group(1) == name else [name, "?", found.group(1)]]
    return []
