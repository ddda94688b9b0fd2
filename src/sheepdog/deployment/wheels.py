"""Wheels: installed packages for another Python and platform, resolved here by uv, as one archive known by its content.

An archive that was made stays in the user's cache, by what was asked for and uv's settings: asked again, nothing is
resolved, unless it names files or places whose content may be another by now.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..client.packages import NOTE
from ..errors import ConfigError
from ..values import account
from . import requirements, uv
from .commands import text_of

TIMEOUT = 1800.0  # seconds for uv: what it fetches may be large
LEFT_OUT = 3600.0  # seconds before it is tried again whether what was left out can be had
MOST_CACHED = 4 << 30  # bytes of archives that stay here, the last used ones
COMPRESSION = 3  # of wheels' content, most of which is machine code
FORMAT = 2  # of an archive here; others are made anew
TIME = 315532800  # seconds: all files are of 1980, so that the same ones are the same bytes
OLD = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}  # glibc of the names of old, by PEP 600
MANYLINUX = [(2, 17), (2, 28), *((2, minor) for minor in range(31, 41))]  # that uv has names for


class Target(NamedTuple):
    """A Python for which packages are: its version, as "3.12", and uv's name of its platform."""

    version: str
    platform: str

    def __str__(self) -> str:
        return f"Python {self.version} on {self.platform}"


class Request(NamedTuple):
    """What packages are wanted: requirements, files that hold some, and the versions that are to be taken.

    perhaps: requirements of which those that cannot be had are left out.
    """

    requirements: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()


class Unresolved(ConfigError):
    """Requirements cannot be met: words are all that uv says of it."""

    def __init__(self, text: str, words: str) -> None:
        super().__init__(text)
        self.words = words


class Archive(NamedTuple):
    """A folder of packages: the hash of what is in it, the file that holds it, and its bytes when it is unpacked.

    left: the requirements that were left out, each with the reason.
    """

    name: str
    path: Path
    size: int
    left: Mapping[str, str] = MappingProxyType({})


def target(implementation: str, version: str, machine: str, libc: str) -> Target:
    """Return what wheels for a Python must fit. libc is as os.confstr says it, such as "glibc 2.36".

    Raises ConfigError if there are none for it.
    """
    if implementation != "cpython":
        raise ConfigError(f"packages can be brought along for CPython only, and the workers run {implementation}")
    minor = ".".join(version.split(".")[:2])
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", libc)
    known = [each for each in MANYLINUX if found and each <= (int(found[1]), int(found[2]))]
    if machine not in ("x86_64", "aarch64") or (found and not known):
        raise ConfigError(f"packages cannot be brought along for {machine} with {libc}: there are no wheels for it")
    if not found:
        return Target(minor, f"{machine}-unknown-linux-musl")
    return Target(minor, f"{machine}-manylinux_{known[-1][0]}_{known[-1][1]}")


def installed_here() -> tuple[str, ...]:
    """Return the versions that are installed here, each as a constraint for what is brought along."""
    found: dict[str, str] = {}
    for each in metadata.distributions():
        name = each.metadata["Name"]
        if name and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and re.fullmatch(r"[\w.!+-]+", each.version):
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), each.version)
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()))


def cache() -> Path:
    """Return the folder of the archives here."""
    return account.cache("packages")


def resolve(request: Request, wanted: Target, said: Callable[[], object] = bool) -> Archive:
    """Return the packages that are wanted, for that Python, with all that they need. said is called if that may last.

    Raises ConfigError if there is no uv, or if something cannot be had: its words name it.
    """
    place = cache()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _key(request, wanted)
    noted, packed = place / f"{key}.json", place / f"{key}.tgz"
    whole = _is_whole(request)
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(noted.read_bytes() if whole else b"")
        is_new = time.time() < noted.stat().st_mtime + LEFT_OUT
        if packed.stat().st_size == known["bytes"] and (is_new or not known["left"]):
            os.utime(packed)
            return Archive(str(known["name"]), packed, int(known["size"]), dict(known["left"]))
    said()
    with tempfile.TemporaryDirectory(dir=place, prefix=".new") as new:
        folder = Path(new) / "packages"
        left = _install_most(request, wanted, folder, Path(new))
        (folder / NOTE).write_text(json.dumps(fits(folder, wanted)))
        name, size = _pack(folder, Path(new) / "archive")
        (Path(new) / "note").write_text(
            json.dumps({"name": name, "size": size, "bytes": (Path(new) / "archive").stat().st_size, "left": left})
        )
        os.replace(Path(new) / "archive", packed)
        os.replace(Path(new) / "note", noted)
    _tidy(place, packed)
    return Archive(name, packed, size, left)


def _is_whole(request: Request) -> bool:
    """Tell whether a request says all that is asked for: it names no other files."""
    files = (requirements.in_file(Path(path)) for path in request.files)
    return all(each.whole for each in (requirements.in_list(request.requirements), *files))


def _key(request: Request, wanted: Target) -> str:
    contents = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in request.files]
    asked = [
        sorted(request.requirements),
        contents,
        request.constraints,
        sorted(request.perhaps),
        wanted,
        requirements.settings(),
    ]
    return hashlib.sha256(json.dumps([FORMAT, *asked]).encode()).hexdigest()


def _install_most(request: Request, wanted: Target, folder: Path, scratch: Path) -> dict[str, str]:
    """Install all but what cannot be had and is wanted perhaps; return what was left out, and why."""
    left: dict[str, str] = {}
    perhaps = request.perhaps
    while True:
        try:
            _install(request._replace(requirements=(*request.requirements, *perhaps)), wanted, folder, scratch)
        except Unresolved as error:
            if not perhaps:
                raise
            names = {re.sub(r"[-_.]+", "-", each).lower() for each in re.findall(r"[\w.-]*\w", error.words)}
            without = [each for each in perhaps if each.partition("==")[0] in names] or perhaps
            left.update(dict.fromkeys(without, in_short(error.words)))
            perhaps = tuple(each for each in perhaps if each not in left)
        else:
            return left


def _install(request: Request, wanted: Target, folder: Path, scratch: Path) -> None:
    program = uv.program()
    if not program:
        raise ConfigError(
            "packages are to be brought along, and there is no uv here to resolve them: "
            f"{sys.executable} -m pip install uv"
        )
    command = [program, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
    command += ["--python-version", wanted.version, "--python-platform", wanted.platform, "--only-binary", ":all:"]
    command += ["--link-mode", "copy"]
    for path in request.files:
        command += ["--requirements", path]
    if request.constraints:
        (scratch / "constraints.txt").write_text("\n".join(request.constraints))
        command += ["--constraints", str(scratch / "constraints.txt")]
    try:
        done = subprocess.run(
            [*command, "--", *request.requirements], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"uv cannot resolve the packages for {wanted}: {error}") from error
    if done.returncode:
        words = text_of(done.stderr)
        text = f"the packages cannot be brought along for {wanted}: {in_short(words)}"
        raise Unresolved(text, words) if "No solution found" in words else ConfigError(text)
    folder.mkdir(exist_ok=True)  # if nothing was wanted


def in_short(words: str) -> str:
    """Return what uv says of what it could not resolve, in few words: which package, and why."""
    text = " ".join(words.split())
    reasons = [
        (r"\b(\S+) has no usable wheels", "{} has no wheel for it: name a version that has one with packages=[...]"),
        (r"\b(\S+) was not found in the package registry", "{} is not known there from where uv fetches"),
        (r"there (?:is|are) no versions? of (\S+?),? (?:and|which|we)\b", "there is no version {}"),
        (r"because (\S+) has no wheels with a matching", "{} has no wheel for it: name another with packages=[...]"),
        (r"only the following versions of (\S+) are available", "no such version of {} is there"),
    ]
    found = [reason.format(name) for pattern, reason in reasons for name in re.findall(pattern, text, re.IGNORECASE)]
    if found:
        return "; ".join(dict.fromkeys(found))
    return re.sub(r"^.*?\berror: ", "", text)[-600:] or "uv says nothing more"


def fits(folder: Path, wanted: Target) -> dict[str, str]:
    """Return for which Python and machines packages are; those without machine code are for any machine.

    The wheels say which glibc they need; one that does not is taken to need that of the head node.
    """
    machine, _, libc = wanted.platform.partition("-")
    asked = re.search(r"manylinux_(\d+)_(\d+)", libc)
    head = (int(asked[1]), int(asked[2])) if asked else (0, 0)
    needed = []
    for path in folder.glob("*.dist-info/WHEEL"):
        tags = re.findall(r"^Tag: (\S+)", path.read_text(errors="replace"), re.MULTILINE)
        if not all(tag.endswith("-any") for tag in tags):
            needed.append(min(filter(None, map(_glibc, tags)), default=head))
    if not needed:
        return {"python": wanted.version, "machine": "", "libc": ""}
    return {
        "python": wanted.version,
        "machine": machine,
        "libc": "glibc {}.{}".format(*max(needed)) if asked else "musl",
    }


def _glibc(tag: str) -> tuple[int, int] | None:
    """Return the glibc that a wheel of this tag needs, if the tag says it."""
    found = re.search(r"-manylinux_(\d+)_(\d+)_", tag)
    if found:
        return int(found[1]), int(found[2])
    old = re.search(r"-manylinux(1|2010|2014)_", tag)
    return OLD[old[1]] if old else None


def _pack(folder: Path, to: Path) -> tuple[str, int]:
    """Write a folder as an archive; return the hash of what is in it, and its bytes."""
    listing, size = hashlib.sha256(), 0
    with (
        open(to, "wb") as file,
        gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name in (".lock", "uv_cache.json") or "__pycache__" in path.parts:
                continue
            content, name = path.read_bytes(), path.relative_to(folder).as_posix()
            member = tarfile.TarInfo(name)
            runs = bool(path.stat().st_mode & 0o100)
            member.size, member.mtime, member.mode = len(content), TIME, 0o755 if runs else 0o644
            archive.addfile(member, io.BytesIO(content))
            listing.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\0{runs}\n".encode())
            size += len(content)
    return listing.hexdigest(), size


def _tidy(place: Path, kept: Path) -> None:
    """Remove archives that were used longest ago, while there are too many bytes."""
    found = sorted(place.glob("*.tgz"), key=lambda path: path.stat().st_mtime, reverse=True)
    size = 0
    for path in found:
        size += path.stat().st_size
        if size > MOST_CACHED and path != kept:
            with suppress(OSError):
                path.unlink()
                path.with_suffix(".json").unlink()
