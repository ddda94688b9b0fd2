"""Pythons that are brought along: of a folder or an archive of this machine, an archive for hosts that have none.

What a worker needs of it goes: the interpreter, its standard library, and the libraries of its own that these load. No
tests, no windows, no headers, and no installed packages. It can be put anywhere: where it looked for its own libraries
in a certain place, it looks beside itself. For the same files it is the same bytes, known by their hash. It is kept
here, below ~/.cache/sheepdog, so that it is made once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import posixpath
import re
import shlex
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import CommandFailed, ConfigError, HostError
from ..values import account
from . import elf, folders
from .commands import text_of
from .hosts import Host
from .pythons import ASK, OLDEST, Pythons, parse, title

FORMAT = 1  # of such an archive: what is made otherwise has another name
COMPRESSION = 6
TIME = 315532800  # seconds: all files are of 1980
KEPT = 4  # archives that stay here

_NEEDLESS = re.compile(
    r"__pycache__|.*\.py[co]|tests?|idlelib|tkinter|turtledemo|turtle\.py|_tkinter\..*|site-packages|dist-packages|"
    r"config-\d.*|.*\.a|EXTERNALLY-MANAGED|_test\w*\..*\.so|xx\w*\..*\.so"
)


class Brought(NamedTuple):
    """A Python that can be brought along."""

    name: str
    """The hash of what is in it."""
    version: str
    machine: str
    """As uname -m says it."""
    libc: str
    """Such as "glibc 2.17", the oldest that it can run with; or "musl"."""
    size: int
    """Bytes of the archive."""
    source: str
    """What it was made of."""

    @property
    def file(self) -> Path:
        """The archive."""
        return cache() / f"{self.name}.tgz"

    def refusal(self, there: Pythons) -> str:
        """Return why it cannot run on a host, empty if nothing is known against it."""
        what = f"{self.source}, {title('cpython', self.version)},"
        if there.system not in ("Linux", ""):
            return f"{what} is for Linux, and {there.host} runs {there.system}"
        if there.machine and not _same(self.machine, there.machine):
            return f"{what} is for {self.machine}, and {there.host} is {there.machine}"
        kind, theirs = there.libc.partition(" ")[0], _numbers(there.libc)
        if kind and self.libc.partition(" ")[0] != kind:
            return f"{what} needs {self.libc}, and {there.host} has {there.libc}"
        if kind == "glibc" and theirs < _numbers(self.libc):
            return f"{what} needs {self.libc} or newer, and {there.host} has {there.libc}"
        return ""


def cache() -> Path:
    """Return where archives are kept."""
    return account.cache("pythons")


def make(source: str) -> Brought:
    """Return the Python of a folder or an archive; it is packed unless it has been. ConfigError if there is none."""
    path = Path(source).expanduser()
    if not path.exists():
        raise ConfigError(
            f"python is {source!r}: there is no such file or folder here. Give an archive or a folder of a CPython, a "
            'version such as "3.13", or "auto"; a Python of the host is named with the option shell'
        )
    try:
        if path.is_dir():
            found = _Prefix.find(path, source)
            return _kept(source, found.stamp()) or found.pack()
        with path.open("rb") as file:
            if file.read(4).startswith((b"\x7fELF", b"#!")):
                raise ConfigError(
                    f"python is {source!r}, which is a program: to bring it along, give its folder, which is "
                    f"sys.base_prefix there; if it is one of the host, name it with the option shell: shell={source!r}"
                )
        stamp = _stamp([path])
        if kept := _kept(source, stamp):
            return kept
        with _unpacked(path, source) as folder:
            return _Prefix.find(folder, source).pack(stamp)
    except OSError as error:
        raise ConfigError(f"python is {source!r}, which cannot be packed: {error}") from error


def command(place: str, name: str) -> str:
    """Return the command that starts it on a host, quoted for a shell. It heeds nothing of the user's environment."""
    path = f"{folders.folder_of(place, folders.PYTHONS)}/{name}/bin/python3"
    return ("" if path.startswith("/") else '"$HOME"/') + f"{shlex.quote(path)} -I"


def put(host: Host, place: str, name: str, said: Callable[[], object] = bool) -> int:
    """Put one there, and start it once, unless it is there already; return how many bytes were sent.

    said is called before it is sent.
    Raises CommandFailed as folders.put does, and HostError if it does not run there; then nothing of it is left.
    """
    file = cache() / f"{name}.tgz"
    if not folders.put(host, place, folders.PYTHONS, name, file.read_bytes, said):
        return 0
    script = f"{command(place, name)} -c \"$1\" 1 brought '' && true"
    try:
        found = parse(text_of(host.run(["sh", "-c", f"cd && {script}", "sh", _FLAT])), host.name).found
        wrong = found[0].lacks if found else "it does not say what it is"
    except CommandFailed as error:
        wrong = text_of(error.errors).strip() or f"it ends with status {error.status}"
    if wrong:
        remove(host, place, name)
        raise HostError(f"the Python that was brought along does not run on {host.name}: {wrong}")
    return file.stat().st_size


def remove(host: Host, place: str, name: str = "") -> None:
    """Remove one that was brought to a host; without a name, all."""
    folder = folders.folder_of(place, folders.PYTHONS)
    if re.fullmatch("[0-9a-f]{64}|", name):
        host.run(["sh", "-c", 'cd && rm -rf "$1"', "sh", posixpath.join(folder, name)], timeout=600.0)


# A command for csh has no newlines and no "!".
_FLAT = f"exec(bytes.fromhex('{ASK.replace('sys.path.pop(0)', '').encode().hex()}').decode())"


class _Prefix(NamedTuple):
    """The folder of a Python: bin/python3.13 and lib/python3.13 are below it."""

    path: Path
    minor: str
    source: str

    @classmethod
    def find(cls, folder: Path, source: str) -> _Prefix:
        """Return it: the folder, or one below. Raises ConfigError if there is none."""
        if (folder / "pyvenv.cfg").exists():
            raise ConfigError(
                f"python is {source!r}, which is a virtual environment: give the Python that it was made of, which is "
                "sys.base_prefix there"
            )
        tops = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        for path in (folder, *tops, *(top / "install" for top in tops)):
            for library in sorted(path.glob("lib/python3.*/os.py"), reverse=True):
                minor = library.parent.name.removeprefix("python")
                if (path / "bin" / f"python{minor}").is_file():
                    if _numbers(minor) < OLDEST:
                        raise ConfigError(f"python is {source!r}, a CPython {minor}: workers need one from 3.6 on")
                    return cls(path, minor, source)
        raise ConfigError(
            f"python is {source!r}, and there is no CPython in it: neither there nor in a folder of it is a "
            "bin/python3.13 with its lib/python3.13 (of whichever version)"
        )

    def stamp(self) -> str:
        """Return what is another one when a file is."""
        libraries = sorted(path for path in self.path.glob("lib/*.so*") if path.is_file())
        return _stamp([*(self.path / name for name in self.files()), *libraries])

    def files(self) -> list[str]:
        """Return the paths of what is to travel, but for the libraries."""
        found = [f"bin/python{self.minor}"]
        top = self.path / "lib" / f"python{self.minor}"
        for folder, below, names in os.walk(top):
            below[:] = sorted(name for name in below if not _NEEDLESS.fullmatch(name))
            for name in sorted(names):
                path = Path(folder, name)
                if not _NEEDLESS.fullmatch(name) and path.is_file():
                    found.append(str(path.relative_to(self.path)))
        return found

    def pack(self, stamp: str = "") -> Brought:
        """Make the archive, and note what it is."""
        stamp = stamp or self.stamp()
        files, programs, waiting = {}, {}, self.files()
        while waiting:
            name = waiting.pop()
            if name in files:
                continue
            files[name] = (self.path / name).read_bytes()
            program = elf.read(files[name])
            if program is not None:
                programs[name] = program
                own = [f"lib/{each}" for each in program.needed if (self.path / "lib" / each).is_file()]
                if own and self.path != Path("/usr"):
                    waiting += own
                    files[name] = self._moved(name, files[name], program)
        main = programs.get(f"bin/python{self.minor}")
        if main is None:
            raise ConfigError(f"python is {self.source!r}: its bin/python{self.minor} is no program for Linux")
        glibc = max(program.glibc for program in programs.values())
        libc = "musl" if "musl" in main.interpreter else f"glibc {glibc[0]}.{glibc[1]}"
        if len({program.machine for program in programs.values()}) > 1:
            raise ConfigError(f"python is {self.source!r}: its files are not all of {main.machine}")
        links = {f"bin/{name}": f"python{self.minor}" for name in ("python3", "python")}
        content = _tar(files, links)
        name = hashlib.sha256(b"%d " % FORMAT + content).hexdigest()
        packed = gzip.compress(content, COMPRESSION, mtime=0)
        brought = Brought(name, self._version(), main.machine, libc, len(packed), self.source)
        _keep(brought, packed, stamp)
        return brought

    def _moved(self, name: str, data: bytes, program: elf.Program) -> bytes:
        """Return a file that finds the libraries beside it, wherever that is."""
        if all(path.startswith("$ORIGIN") for _, _, path in program.paths):
            return data
        changed = elf.moved(data, program, posixpath.join("$ORIGIN", posixpath.relpath("lib", posixpath.dirname(name))))
        if changed is None:
            places = " and ".join(path for _, _, path in program.paths)
            raise ConfigError(
                f"python is {self.source!r}, which cannot be moved: its {name} looks for libraries in {places}. Give "
                'one that can be, such as those of uv: python="3.13"'
            )
        return changed

    def _version(self) -> str:
        """Return the version, as far as files tell it."""
        headers = (self.path / "include").glob(f"python{self.minor}*/patchlevel.h")
        for header in headers:
            said = re.search(r'#define PY_VERSION\s+"([^"]+)"', header.read_text(errors="replace"))
            if said:
                return said[1]
        return self.minor


@contextmanager
def _unpacked(path: Path, source: str) -> Iterator[Path]:
    """Give the folder of what is in an archive."""
    with tempfile.TemporaryDirectory(prefix="sheepdog-python-") as folder:
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
                while archive.fileobj is not None and archive.fileobj.read(1 << 20):
                    pass  # the checksum comes last
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, ValueError) as error:
            raise ConfigError(
                f"python is {source!r}, which cannot be unpacked: {error}. It must be a folder, or a tar archive that "
                "is compressed with gzip, xz or bzip2 (such as those called install_only of python-build-standalone)"
            ) from error
        yield Path(folder)


def _tar(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted({*files, *links}):
            member = tarfile.TarInfo(name)
            member.mtime = TIME
            if name in files:
                member.size, member.mode = (
                    len(files[name]),
                    0o755 if name.startswith("bin/") or ".so" in name else 0o644,
                )
                archive.addfile(member, io.BytesIO(files[name]))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, links[name]
                archive.addfile(member)
    return buffer.getvalue()


def _stamp(paths: list[Path]) -> str:
    digest = hashlib.sha256(b"%d" % FORMAT)
    for path in paths:
        found = path.stat()
        digest.update(f"{path.absolute()}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ino}\n".encode())
    return digest.hexdigest()


def _kept(source: str, stamp: str) -> Brought | None:
    """Return what was made of this before, if it is still there."""
    try:
        found = Brought(**{**json.loads((cache() / f"{stamp}.json").read_bytes()), "source": source})
        if found.file.stat().st_size != found.size:
            return None
        os.utime(found.file)
    except (OSError, ValueError, TypeError):
        return None
    return found


def _keep(brought: Brought, packed: bytes, stamp: str) -> None:
    """Keep an archive, and what was made of these files; let the oldest go."""
    place = cache()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (
        (brought.file.name, packed),
        (f"{stamp}.json", json.dumps(brought._asdict()).encode()),
    ):
        with tempfile.NamedTemporaryFile(dir=place, delete=False) as file:
            try:
                file.write(content)
                file.close()
                os.replace(file.name, place / name)
            except BaseException:
                with suppress(OSError):
                    os.unlink(file.name)
                raise
    for pattern, most in (("*.tgz", KEPT), ("*.json", 4 * KEPT)):
        for old in sorted(place.glob(pattern), key=lambda path: path.stat().st_mtime)[:-most]:
            old.unlink(missing_ok=True)


def _numbers(libc: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", libc)[:2])


def _same(one: str, other: str) -> bool:
    """Tell whether a program for one machine runs on another, as far as their names tell."""
    names = {"amd64": "x86_64", "arm64": "aarch64", "i386": "i686", "i586": "i686", "armv8l": "armv7l"}
    one, other = names.get(one, one), names.get(other, other)
    return one == other or (one, other) == ("i686", "x86_64") or not one
