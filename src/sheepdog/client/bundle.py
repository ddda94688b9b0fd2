"""The user's own files, as they came: unpacked, imported from where they lie, and set to what they were set to.

Over there each file lies below `files` as it lay below / on the user's machine; see bundle/archive.py.
"""

import functools
import io
import json
import os
import pickle
import sys
import types

from .stand_in import StandIns
from .wire.names import find_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any

    from .wire.frames import Blob

    Forms = Mapping[str, Mapping[str, bytes]]  # what goes by value, by module and name
    from .wire.loader import World  # noqa: F401 (named in a comment)

LIST, FILES = "bundle.json", "files"
DIGEST = 32  # bytes of a hash


def pack_manifest(bundle: bytes, state: "dict[str, bytes]", second: "Forms") -> bytes:
    """Return a manifest: the hash of a bundle, and what Own.set and Own.stand_by are told."""
    return bundle + pickle.dumps((state, second), 4)


def bundle_of(manifest: "Blob") -> bytes:
    """Return the hash of the bundle in a manifest."""
    if not isinstance(manifest, bytes):
        manifest.seek(0)
        manifest = manifest.read(DIGEST)
    return manifest[:DIGEST]  # type: ignore[no-any-return]


def folder_of(directory: str, bundle: bytes) -> str:
    """Return where a bundle lies, for the array jobs whose directories are beside this one."""
    return os.path.join(os.path.dirname(os.path.abspath(directory)), "bundles", bundle.hex())


def unpack(archive: "Blob", folder: str, name: "str | None" = None) -> None:
    """Unpack an archive so that a folder has what is in it: all of it, or nothing. Others may do the same meanwhile.

    Raises ValueError if it is not the one of this name, OSError if there is no room.
    """
    if os.path.isdir(folder):
        return
    import hashlib
    import shutil
    import tarfile  # slow to import, and one process of many unpacks

    place = "%s.%s" % (folder, os.urandom(8).hex())
    file = archive
    if isinstance(archive, bytes):
        file = io.BytesIO(archive)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:gz") as members:
            expected = None  # type: dict[str, str] | None
            for member in members:
                source = members.extractfile(member) if member.isreg() else None
                if source is None or os.path.isabs(member.name) or ".." in member.name.split("/"):
                    raise ValueError("%s is no file of a bundle's" % member.name)
                content = source.read()
                digest = hashlib.sha256(content).hexdigest()
                if expected is None:
                    expected = {FILES + path: each[0] for path, each in json.loads(content.decode())["files"].items()}
                    right = name is None or digest == name
                else:
                    right = expected.pop(member.name, None) == digest
                if not right:
                    raise ValueError("%s in the bundle is another than its name says" % member.name)
                _write(os.path.join(place, member.name), content, member.mode, member.mtime)
        if expected is None or expected:
            raise ValueError("files are missing in the bundle")
        try:
            os.rename(place, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write(path: str, content: bytes, mode: int, time: float) -> None:
    try:
        os.makedirs(os.path.dirname(path))
    except FileExistsError:
        pass
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
    os.utime(path, (time, time))


class Own(object):
    """The user's own modules in a process: where they are imported from, and what is set in them."""

    def __init__(self, folder: str) -> None:
        with open(os.path.join(folder, LIST), encoding="utf-8") as file:
            self.roots = json.load(file)["roots"]  # type: list[str]
        self.place = os.path.join(folder, FILES)
        self.state = {}  # type: dict[str, bytes]
        self.made = {}  # type: dict[str, dict[str, Any]]  # by module: what its file has made of what was set
        self.second = {}  # type: Forms
        self.world = None  # type: World | None  # of what is in the second form
        self.refused = {}  # type: dict[str, str]  # by module: why it could not be imported
        self.news = []  # type: list[str]  # of that, what nobody has been told

    def start(self) -> None:
        """Let modules be found here before all others."""
        sys.path[:0] = [self.place + root for root in self.roots]
        sys.meta_path.insert(0, self)

    def set(self, state: "Mapping[str, bytes]") -> None:
        """Set modules to what is said of each: now if they are imported, else when they are.

        What is not set any more is again what it was.
        """
        before, self.state = self.state, dict(state)
        for name in set(before) | set(self.state):
            if name in sys.modules and before.get(name) != self.state.get(name):
                self.set_module(sys.modules[name])

    def stand_by(self, second: "Forms") -> None:
        """Let what goes by value stand for those of these modules that cannot be imported."""
        self.second = second

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """Return what the other finders say, if something is to be set in a module once it has been imported."""
        if name not in self.state and name not in self.second:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self.watch(spec.loader)
                return spec
        return None

    def watch(self, loader: "Any") -> None:
        """Let a loader set what is to be set when it has run a module. It stays the loader that tools know."""
        run = loader.exec_module

        @functools.wraps(run)
        def exec_module(module: "ModuleType") -> None:
            try:
                run(module)
            except Exception as error:
                if module.__name__ not in self.second:
                    raise
                self.fill_in(module, error)
            self.set_module(module)

        loader.exec_module = exec_module

    def fill_in(self, module: "ModuleType", error: Exception) -> None:
        """Let a module that cannot be imported have what came by value, when it is looked up; and remember why."""
        from .wire.loader import World  # seldom needed
        from .wire.values import load

        name = module.__name__
        reason = self.refused[name] = "%s: %s" % (type(error).__name__, error)
        self.news.append("%s cannot be imported there (%s): what came of it by value stands in" % (name, reason))
        self.world = self.world or World()
        self.world.modules[name] = module

        def look_up(key: str) -> "Any":
            form = self.second.get(name, {}).get(key)
            if key.startswith("__"):
                raise AttributeError(key)
            if form is None:
                raise ImportError("%s cannot be imported here (%s), and %s came not by value" % (name, reason, key))
            vars(module).setdefault(key, load(form, self.world))
            return vars(module)[key]

        vars(module)["__getattr__"] = look_up  # from 3.7 on it is asked
        for key in self.second[name] if sys.version_info < (3, 7) else ():
            look_up(key)

    def set_module(self, module: "ModuleType") -> None:
        """Set the globals of a module, and attributes of its classes."""
        import copy  # what travels as files may be nothing

        values = self.load(self.state.get(module.__name__))
        made = self.made.setdefault(module.__name__, {})
        for name in sorted(set(made) | set(values)):
            owner, _, last = name.rpartition(".")
            try:
                target = getattr(module, owner, None) if owner else module
            except ImportError:  # it is not there, and nothing stands for it
                continue
            if target is None:
                continue
            there = vars(target).get(last)
            value = values[name] if name in values else copy.copy(made[name])
            made.setdefault(name, copy.copy(there))
            if not fill(there, value):
                setattr(target, last, value)

    def load(self, data: "bytes | None") -> "dict[str, Any]":
        """Return what is to be set in a module, by name."""
        return Loader(data, self.place).load() if data else {}

    def reason(self, error: BaseException) -> str:
        """Return why something cannot be imported, in a line: in which of the user's files that stands, and where."""
        file, line, words = "", 0, " ".join(str(error).split())
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.startswith(self.place):
                file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
            trace = trace.tb_next
        if isinstance(error, SyntaxError):
            file, line, words = error.filename or file, error.lineno or line, error.msg
        where = "%s, line %d: " % (file, line) if file else ""
        return self.own_name("%s%s: %s" % (where, type(error).__name__, words))

    def own_name(self, text: str) -> str:
        """Return a text in which files are named as on the user's machine."""
        return text.replace(self.place + "/", "/")


class Modules(object):
    """The user's own modules in the process of the tasks, as the manifest of each says.

    fits: what goes by value can be loaded here, and so stand for a module that cannot be imported.
    """

    def __init__(self, directory: str, fits: bool = True) -> None:
        self.directory = directory
        self.fits = fits
        self.own = None  # type: Own | None
        self.manifest = b""  # the hash of the one that holds

    def prepare(self, name: bytes, files: "Mapping[bytes, bytes]") -> None:
        """Let modules be as a manifest of this hash says, which is one of these files; with none, as they are."""
        if not name:
            return
        manifest = files.get(name)
        if not manifest:
            raise LookupError("the manifest %s is not in the database" % name.hex())
        state, second = pickle.loads(manifest[DIGEST:])
        if self.own is None:
            folder = folder_of(self.directory, bundle_of(manifest))
            if not os.path.isdir(folder):
                raise LookupError("they are neither in %s nor in the database" % folder)
            self.own = Own(folder)
            self.own.start()
            StandIns().start()
        self.own.set(state)
        self.own.stand_by(second if self.fits else {})
        self.manifest = name

    def reason(self, error: BaseException) -> str:
        """Return why something cannot be loaded here, in a line."""
        if self.own is None:
            return "%s: %s" % (type(error).__name__, " ".join(str(error).split()))
        return self.own.reason(error)

    def take_news(self) -> "list[str]":
        """Return what the user should hear, and has not been told."""
        if self.own is None or not self.own.news:
            return []
        news, self.own.news = self.own.news, []
        return news

    def own_names(self, text: bytes) -> bytes:
        """Return a text in which files are named as on the user's machine."""
        return text if self.own is None else text.replace(self.own.place.encode() + b"/", b"/")


class Loader(pickle.Unpickler):
    """Loads plain data in which files are named by where they lie here."""

    def __init__(self, data: bytes, place: str) -> None:
        super(Loader, self).__init__(io.BytesIO(data))
        self.place = place

    def find_class(self, module: str, name: str) -> "Any":
        """Return what a pickle names."""
        return find_name(super(Loader, self).find_class, module, name)

    def persistent_load(self, name: "tuple[str, str, str]") -> "Any":
        """Return a text or a path that begins with one of the user's files."""
        _, text, kind = name
        path = "%s/%s" % (self.place, text)
        if not kind:
            return path
        import pathlib  # slow to import

        return getattr(pathlib, kind)(path)


def fill(old: "Any", new: "Any") -> bool:
    """Give a container what is in another of its kind, so that it stays itself; tell whether it is such a one."""
    if old is new:
        return True
    if type(old) is not type(new):
        return False
    if isinstance(old, (dict, set)):
        old.clear()
        old.update(new)
    elif isinstance(old, (list, bytearray)):
        old[:] = new
    elif isinstance(old, types.SimpleNamespace):
        vars(old).clear()
        vars(old).update(vars(new))
    else:
        return False
    return True
