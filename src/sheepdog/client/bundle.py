"""The user's own files, as they came: unpacked, imported from where they lie, and set to what they were set to.

Over there each file lies below `files` as it lay below / on the user's machine; see bundle/archive.py.
"""

import builtins
import functools
import io
import json
import os
import pickle
import sys
from _thread import _local

from .second import SecondForms
from .stand_in import StandIns
from .state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any

    from .second import Forms
    from .wire.frames import Blob

LIST, FILES = "bundle.json", "files"
TIME = 315532800  # seconds: all files are of 1980, so that the same ones are the same bytes
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


def is_whole(folder: str) -> bool:
    """Tell whether a bundle lies there, with all its files as they came.

    Where old files are swept away, some may have gone; a task may have written to one.
    """
    try:
        with open(os.path.join(folder, LIST), encoding="utf-8") as file:
            files = json.load(file)["files"]
        found = ((os.stat(folder + "/" + FILES + path), each[1]) for path, each in files.items())
        return all((status.st_size, int(status.st_mtime)) == (size, TIME) for status, size in found)
    except (OSError, ValueError):
        return False


def unpack(archive: "Blob", folder: str, name: "str | None" = None) -> None:
    """Unpack an archive so that a folder has what is in it: all of it, or nothing. Others may do the same meanwhile.

    Raises ValueError if it is not the one of this name, OSError if there is no room.
    """
    if is_whole(folder):
        return
    import hashlib
    import shutil
    import tarfile  # slow to import, and one process of many unpacks

    place, aside = ("%s.%s" % (folder, os.urandom(8).hex()) for _ in range(2))
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
        if os.path.isdir(folder) and not is_whole(folder):
            os.rename(folder, aside)
        try:
            os.rename(place, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _write(path: str, content: bytes, mode: int, time: float) -> None:
    try:
        os.makedirs(os.path.dirname(path))
    except FileExistsError:
        pass
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode & 0o555)  # a later request has the same file
    os.utime(path, (time, time))


class Own(object):
    """The user's own modules in a process: where they are imported from, and what is set in them."""

    def __init__(self, folder: str) -> None:
        with open(os.path.join(folder, LIST), encoding="utf-8") as file:
            said = json.load(file)
        self.roots = said["roots"]  # type: list[str]
        self.place = os.path.join(folder, FILES)
        self.files = said["files"]  # type: dict[str, Any]
        self.tops = tops_of(said, self.place)
        self.state = State(self.place)
        self.imports = _local()  # of a thread: how many are under way, and the modules to be set when they have ended
        self.second = SecondForms()
        self.news = []  # type: list[str]  # what the user should hear, and nobody has been told

    def start(self) -> None:
        """Let modules be found here before all others."""
        sys.path[:0] = [self.place + root for root in self.roots]
        sys.meta_path.insert(0, self)
        imports = builtins.__import__

        @functools.wraps(imports)
        def own_import(name, *args, **how):  # type: (str, Any, Any) -> Any
            level = args[3] if len(args) > 3 else how.get("level", 0)
            if not level and self.tops is not None and name.partition(".")[0] not in self.tops:
                return imports(name, *args, **how)
            self.hold()  # `from package import module` is two imports
            try:
                return imports(name, *args, **how)
            finally:
                self.let_go()

        builtins.__import__ = own_import

    def set(self, state: "Mapping[str, bytes]") -> None:
        """Set modules to what is said of each: now if they are imported, else when they are."""
        self.state.take(state)

    def stand_by(self, second: "Forms") -> None:
        """Let what goes by value stand for those of these modules that cannot be imported."""
        self.second.forms = second

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """Return what the other finders say, of a module that may be one of the user's own."""
        if self.tops is not None and name.partition(".")[0] not in self.tops:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    self.watch(spec.loader)
                return spec
        return None

    def watch(self, loader: "Any") -> None:
        """Let a loader set what is to be set when it has run a module. It stays the loader that tools know.

        It is set when the import that others are part of has ended.
        """
        run = loader.exec_module
        if hasattr(run, "sets_own"):  # that of a zip file, which has many modules
            return

        @functools.wraps(run)
        def exec_module(module: "ModuleType") -> None:
            self.hold()
            try:
                try:
                    run(module)
                except Exception as error:
                    if module.__name__ not in self.second.forms:
                        raise
                    self.news.append(self.second.fill_in(module, error))
                self.imports.modules.append(module)
            finally:
                self.let_go()

        exec_module.sets_own = True  # type: ignore[attr-defined]
        loader.exec_module = exec_module

    def hold(self) -> None:
        """Set no module that this thread imports until let_go has been called as often."""
        self.imports.depth = getattr(self.imports, "depth", 0) + 1
        if self.imports.depth == 1:
            self.imports.modules = []

    def let_go(self) -> None:
        """Set those that have been imported meanwhile, if no import is under way."""
        self.imports.depth -= 1
        if not self.imports.depth:
            self.state.set(self.imports.modules, anew=True)
            self.news += self.state.faults
            self.state.faults = []

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
        return self.own_name("%s%s: %s%s" % (where, type(error).__name__, words, self.why_not_found(error)))

    def why_not_found(self, error: BaseException) -> str:
        """Return why a module is not found that is among the files; nothing if it is not, or the error is another."""
        name = "/%s." % (getattr(error, "name", None) or "").replace(".", "/")
        found = [path for path in self.files if path.endswith((".so", ".pyd")) and name in path]
        if not found or not isinstance(error, ModuleNotFoundError):
            return ""
        return " (%s is compiled for another Python or machine: take the one that it is made for)" % found[0]

    def own_name(self, text: str) -> str:
        """Return a text in which files are named as on the user's machine."""
        return text.replace(self.place + "/", "/")


def tops_of(said: "dict[str, Any]", place: str) -> "set[str] | None":
    """Return the names of the modules in a bundle that are in no package; None if they are in a zip file."""
    tops = set()  # type: set[str]
    for root in said["roots"]:
        if not os.path.isdir(place + root):
            return None
        inside = root.rstrip("/") + "/"
        tops.update(path[len(inside) :].partition("/")[0] for path in said["files"] if path.startswith(inside))
    return {name.partition(".")[0] for name in tops}


class OwnModules(object):
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

    def __enter__(self) -> None:
        """Begin to load something: modules that are imported for it are set when it has been loaded."""
        if self.own is not None:
            self.own.hold()

    def __exit__(self, *_: object) -> None:
        if self.own is not None:
            self.own.let_go()

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
