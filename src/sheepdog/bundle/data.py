"""Data files: what lies beside own modules and goes along with them, within bounds."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from .code import Look
from .facts import Fact, Why
from .installed import editables
from .own import Kind, Module

MAX_DATA_FILE = 32 * 2**20  # bytes of one data file
MAX_DATA = 256 * 2**20  # bytes of all data files of a package
MAX_DATA_FILES = 20_000  # of a package
MAX_NAMED = 10  # that are too large, each with a sentence of its own

LEFTOVERS = ("__pycache__", "node_modules", "CVS")
DATABASE = "sheepdog.sqlite"
BESIDE = ("-wal", "-shm", "-journal", "-server", "-server.log")  # what lies beside a database
WRITTEN = re.compile(
    r".*\.(log|log\.\d+|pid|lock|lck|tmp|temp|part|swp|swo|bak|orig)|.*~|#.*#|nohup\.out", re.IGNORECASE
)
"""What programs and editors write while they run, in full: these are no data files."""
BUILT = ("bdist.", "temp.", "lib.", "__editable__.")  # what setuptools makes in a folder `build`
ENVIRONMENT = ("pyvenv.cfg", "conda-meta")
CODE = (".py", ".so", ".pyd")


@dataclass(slots=True)
class Gathered:
    """The files that go along, by path; and what the user should hear.

    folders: those in which all was looked for. asked: those in which names were looked for, with these.
    """

    paths: dict[str, os.stat_result] = field(default_factory=dict)
    folders: dict[str, os.stat_result] = field(default_factory=dict)
    asked: dict[str, frozenset[str]] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)


def gather(own: Mapping[str, Module], looks: Mapping[str, Look], added: Iterable[str] = ()) -> Gathered:
    """Return the files that go along with own modules: of a package its folder, of others what their source names.

    added: paths of files and folders besides, which no bound holds for, and of which all goes along.
    """
    files = Gathered()
    for package, folder in sorted(packages_of(own).items()):
        _add_package(files, package, folder)
    for module in own.values():
        _add(files, module.file)
        if not module.paths and module.kind == Kind.OWN:
            for named in _named_in(files, module, looks.get(module.name)):
                _add_data(files, [path for path in _below(files, named) if not _is_written(path)], named)
    for folder in sorted({module.root for module in own.values()}):
        for metadata in _metadata_of(folder):
            _add(files, metadata)
    for path in added:
        for each in _below(files, path):
            _add(files, each)
    return files


def packages_of(own: Mapping[str, Module]) -> dict[str, str]:
    """Return the topmost own packages of modules, each with its folder."""
    packages = {}
    for name, module in own.items():
        above = name.rpartition(".")[0]
        if module.paths and module.kind != Kind.ZIPPED and above not in own:
            packages[name] = os.path.dirname(module.path)
    return packages


def _add(files: Gathered, path: str) -> None:
    try:
        files.paths[path] = os.stat(path)
    except OSError as error:
        files.facts.append(Fact(Why.UNREADABLE, path, more=error.strerror or str(error)))


def _add_package(files: Gathered, package: str, folder: str) -> None:
    data = []
    for path in _below(files, folder):
        if path.endswith(CODE):
            _add(files, path)
        elif not _is_written(path):
            data.append(path)
    _add_data(files, data, f"the package {package}")


def _add_data(files: Gathered, paths: list[str], of: str) -> None:
    """Add data files, so far as they keep within the bounds; the largest are left out first."""
    found = Gathered()
    for path in paths:
        _add(found, path)
    sizes = sorted(((found.paths[path].st_size, path) for path in found.paths), reverse=True)
    large = [each for each in sizes if each[0] > MAX_DATA_FILE]
    for size, path in large[:MAX_NAMED]:
        more = f"it has {size:,} bytes, and a data file at most {MAX_DATA_FILE:,}"
        files.facts.append(Fact(Why.TOO_LARGE, path, more=more))
    total, left, count = sum(size for size, _ in sizes) - sum(size for size, _ in large), len(large), len(sizes)
    while left < count and (total > MAX_DATA or count - left > MAX_DATA_FILES):
        total -= sizes[left][0]
        left += 1
    if left > min(len(large), MAX_NAMED):
        more = f"{of} has {count:,} data files, and {left:,} are left out, the largest first"
        bounds = f"at most {MAX_DATA_FILES:,} with {MAX_DATA:,} bytes travel"
        files.facts.append(Fact(Why.TOO_LARGE, sizes[left - 1][1], more=f"{more} ({bounds})"))
    files.paths.update((path, found.paths[path]) for _, path in sizes[left:])
    files.facts += found.facts


def _named_in(files: Gathered, module: Module, look: Look | None) -> Iterator[str]:
    """Yield what lies beside a module and is named in its source, if the source asks where it is."""
    if look is None or "__file__" not in look.names | look.outside:
        return
    folder = os.path.dirname(module.path)
    try:
        there = set(os.listdir(folder))
    except OSError:
        return
    files.asked[folder] = files.asked.get(folder, frozenset()) | look.texts
    for text in sorted(look.texts):
        first = text.removeprefix("./").partition("/")[0]
        if first not in there or first.startswith(".") or "\0" in text:
            continue
        path = os.path.normpath(os.path.join(folder, text))
        if path.startswith(folder + "/") and not path.endswith(".py") and os.path.exists(path):
            yield path


def listing(folder: str, texts: frozenset[str]) -> frozenset[str]:
    """Return which modules and folders there are in a folder, and what has one of these names. Others come and go."""
    try:
        return frozenset(name for name in os.listdir(folder) if name.endswith(CODE) or "." not in name or name in texts)
    except OSError:
        return frozenset()


def _metadata_of(root: str) -> Iterator[str]:
    """Yield what says the version and the entry points of the user's own projects, as importlib.metadata reads it."""
    for folder in _metadata_folders(root):
        for name in ("METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt"):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield path


def _metadata_folders(root: str) -> Iterator[str]:
    try:
        yield from (os.path.join(root, entry) for entry in os.listdir(root) if entry.endswith(".egg-info"))
    except OSError:  # a zip file
        pass
    for place in dict.fromkeys(os.path.abspath(entry) for entry in sys.path):
        for each in editables(place):
            if (root + "/").startswith(each.project + "/"):
                yield each.metadata


def _below(files: Gathered, path: str) -> Iterator[str]:
    """Yield the files below a folder, or the one that it is; not what is hidden, left over, or of an environment."""
    if os.path.isfile(path):
        yield path
        return
    waiting: list[tuple[str, frozenset[str]]] = [(path, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        real = os.path.realpath(folder)
        if real in above:  # a link that leads up
            continue
        try:
            files.folders[folder] = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            files.facts.append(Fact(Why.UNREADABLE, folder, more=error.strerror or str(error)))
            continue
        if above and any(entry.name in ENVIRONMENT for entry in entries):
            continue
        for entry in entries:
            if entry.name.startswith((".", DATABASE)) or entry.name in LEFTOVERS or entry.name.endswith(BESIDE):
                continue
            try:
                if entry.is_file():
                    yield entry.path
                elif entry.is_dir() and not _is_built(entry):
                    waiting.append((entry.path, above | {real}))
            except OSError as error:  # a link to itself
                files.facts.append(Fact(Why.UNREADABLE, entry.path, more=error.strerror or str(error)))


def _is_written(path: str) -> bool:
    return WRITTEN.fullmatch(os.path.basename(path)) is not None


def _is_built(entry: os.DirEntry[str]) -> bool:
    """Tell whether a folder is what a build has left."""
    if entry.name.endswith(".dist-info"):
        return True
    if entry.name != "build":
        return False
    inside = os.listdir(entry.path)
    return "__init__.py" not in inside and any(name == "lib" or name.startswith(BUILT) for name in inside)
