"""Pythons of a host: which there are, asked in one round trip, and which of them is best for a request.

Each that is found says itself what it is. Where they are looked for is the order of those that are as good:

    setup     what the user's own lines of setup lead to
    PATH      what a shell finds there
    system    /usr/bin, /usr/local/bin
    home      ~/.local, and what uv, conda and pyenv have put below the home directory
    /opt      what a site puts there
    module    what environment modules of the site are called Python
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .commands import text_of
from .hosts import Host

OLDEST = (3, 6)
PATIENCE = 10  # seconds in which a Python says what it is: all are asked at once
SETUP = "setup"
MOST = 64  # Pythons that are asked
TITLES = {"cpython": "CPython", "pypy": "PyPy"}

# Runs on Python 2.7, too, which does not know -I: the directory that -c puts first in sys.path is taken out.
ASK = """import sys
sys.path.pop(0)
import os
implementation = getattr(sys, "implementation", None)
name = implementation.name if implementation else "pypy" if hasattr(sys, "pypy_version_info") else "cpython"
try:
    from importlib.util import MAGIC_NUMBER as magic
except ImportError:
    from imp import get_magic
    magic = get_magic()
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except Exception:
    libc = ""
lacks = ""
try:
    import hashlib, json, socket, ssl, zlib
except Exception:
    lacks = str(sys.exc_info()[1])
path = sys.executable or sys.argv[3]
facts = [name, "%d.%d.%d" % sys.version_info[:3], "".join("%02x" % each for each in bytearray(magic)), os.uname()[4],
    libc, path, os.path.realpath(path), sys.prefix, lacks]
words = "\\t".join(["", "sheepdog:python", sys.argv[1], sys.argv[2]] + [" ".join(each.split()) for each in facts])
os.write(1, ("\\n" + words + "\\n").encode("utf-8", "replace"))
"""

# What a shell of its own does, so that it can be given up. $1 is ASK, $2 the lines of setup; the words go to 3.
_SITE = "command -v module >/dev/null || [ ! -r /etc/profile ] || . /etc/profile\n"
_SETUP = (
    _SITE
    + """eval "$2"
found=$(command -v python3)
printf "\\n\\tsheepdog:setup\\t%s\\n" "$found" >&3
[ -n "$found" ] && exec "$found" -E -s -S -c "$1" 0 setup "$found" >&3
"""
)
_MODULES = (
    """command -v module >/dev/null || [ -n "$MODULEPATH$LMOD_CMD" ] || ls /etc/profile.d/*mod* || exit 0
"""
    + _SITE
    + """command -v module >/dev/null || exit 0
count=1000
for one in $(module -t avail 2>&1 | sed -n 's/(.*)$//; /^[A-Za-z0-9_.+/-]*[^:/]$/p' |
  grep -Ei '(^|/)(c?python3?|anaconda3?|miniconda3?|miniforge3?|pypy3?)(/|$)' | tail -n 12)
do
  count=$((count + 1))
  (
    module load "$one" && found=$(command -v python3) || exit
    exec "$found" -E -s -S -c "$1" $count "module $one" "$found" >&3
  ) &
done
wait
"""
)
_PLATFORM = r"""
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=$(ls /lib/ld-musl-* >/dev/null 2>&1 && echo musl)
printf '\n\tsheepdog:system\t%s\t%s\t%s\n' "$(uname -s)" "$(uname -m)" "$libc"
"""
_SCRIPT = r"""
ask() {
  [ -f "$2" ] && [ -x "$2" ] && [ $((count % 200)) -lt MOST ] || return 0
  real=$(readlink -f "$2" 2>/dev/null || echo "$2")
  case "$asked" in *":$real:"*) return 0;; esac
  asked="$asked:$real:" count=$((count + 1))
  $limit "$2" -E -s -S -c "$code" $count "$1" "$2" </dev/null 2>/dev/null &
}
look() {
  there=$(cd -P "$2" 2>/dev/null && pwd -P) || return 0
  case "$seen" in *":$there:"*) return 0;; esac
  seen="$seen:$there:"
  for one in "$2"/python3.[0-9] "$2"/python3.[0-9][0-9] "$2"/python3 "$2"/pypy3.[0-9]* "$2"/pypy3; do
    ask "$1" "$one"
  done
  [ -e "$2/python3" ] || ask "$1" "$2/python"
}
usual() {
  [ -z "$setup" ] || $limit $shell -c "$of_setup" sh "$code" "$setup" 3>&1 >/dev/null 2>&1 &
  IFS=:; for each in $PATH; do unset IFS; look PATH "${each:-.}"; done; unset IFS
  for each in /usr/bin /usr/local/bin; do look system "$each"; done
  ask system /usr/libexec/platform-python
  wait
}
others() {
  count=200
  $limit $shell -c "$of_modules" sh "$code" 3>&1 >/dev/null 2>&1 &
  for each in "$HOME/.local/bin" "$uv"/*/bin; do look home "$each"; done
  for each in "$HOME/.conda" "$HOME"/*conda* "$HOME"/*forge* "$HOME"/mamba* "$HOME"/micromamba*; do
    for each in "$each/bin" "$each"/envs/*/bin; do look home "$each"; done
  done
  for each in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin; do look home "$each"; done
  for each in /opt/*/bin /opt/python/*/bin; do look /opt "$each"; done
  [ -z "$own" ] || ask here "$own"
  wait
}
all() {
  found=$(usual)
  printf '%s\n' "$found"
  [ -n "$enough" ] && printf '%s\n' "$found" | grep -q "$enough" || others
}
count=0 seen= asked= limit= shell=$(command -v bash || echo sh)
uv=${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}
command -v timeout >/dev/null && timeout -k 1 1 true 2>/dev/null && limit="timeout -k 1 PATIENCE"
all </dev/null
""".replace("MOST", str(MOST)).replace("PATIENCE", str(PATIENCE))


class Found(NamedTuple):
    """A Python of a host, in its own words."""

    where: str
    """How it was found: setup, PATH, ... as above, or here: it is the one that runs this."""
    implementation: str
    version: str
    magic: str
    """Of its bytecode, in hexadecimal digits."""
    machine: str
    libc: str
    """Such as "glibc 2.36"; empty if it does not know."""
    path: str
    lacks: str = ""
    """What of the standard library a worker would need, and it has not."""

    @property
    def facts(self) -> dict[str, str]:
        """What decides which functions it can load: see Form.fits."""
        return {
            "implementation": self.implementation,
            "version": self.version,
            "magic": self.magic,
            "executable": self.path,
        }

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, in numbers."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])

    @property
    def usable(self) -> bool:
        """Whether a worker can run on it."""
        return self.numbers >= OLDEST and not self.lacks

    @property
    def module(self) -> str:
        """The environment module that it is of; empty if it is of none."""
        return self.where.removeprefix("module ") if self.where.startswith("module ") else ""

    def __str__(self) -> str:
        return f"{self.path} ({title(self.implementation, self.version)})"


@dataclass(frozen=True, slots=True, repr=False)
class Pythons:
    """The Pythons of a host, in the order in which they were looked for."""

    host: str
    system: str
    """Such as Linux."""
    machine: str
    """Such as x86_64."""
    libc: str
    """Such as "glibc 2.36" or "musl"; empty if it is not known."""
    found: tuple[Found, ...]
    setup: str | None = None
    """What the lines of setup make of the command python3; None if there are none, or if they fail there."""

    def __repr__(self) -> str:
        platform = " ".join(filter(None, (self.system, self.machine, self.libc)))
        rows = [(each.where, each.path, title(each.implementation, each.version), note(each)) for each in self.found]
        if not rows:
            return f"no Python on {self.host} ({platform})"
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"Pythons on {self.host} ({platform}):", *(f"  {line}" for line in lines)])

    def named(self) -> str:
        """Return what there is, in short words for an error."""
        short = [f"{title(each.implementation, each.version)} ({each.path})" for each in self.found]
        return ", ".join(short[:6]) + (f" and {len(short) - 6} more" if len(short) > 6 else "") or "no Python"


def title(implementation: str, version: str) -> str:
    """Return what people call a Python."""
    return f"{TITLES.get(implementation, implementation)} {version}"


def note(found: Found) -> str:
    """Return why no worker can run on a Python; empty if one can."""
    if found.numbers < OLDEST:
        return "too old"
    return f"not of use: {found.lacks}" if found.lacks else ""


def look(host: Host, setup: Sequence[str] = (), own: str = "", enough: Mapping[str, str] | None = None) -> Pythons:
    """Return the Pythons of a host.

    setup are the user's lines for the worker's shell; own is a Python that may be there. If enough are the facts of a
    Python, and what a shell finds first is as that in implementation and bytecode, no others are asked.

    One that does not say what it is in PATIENCE seconds is left out. Raises HostError if the host cannot be asked.
    """
    lines = "".join(f"{line}\n[ $? -eq 0 ] || exit 1\n" for line in setup)
    given = {"code": ASK, "setup": lines, "own": own, "of_setup": _SETUP, "of_modules": _MODULES}
    given["enough"] = f"\t{enough['implementation']}\t[0-9.]*\t{enough['magic']}\t.*\t$" if enough else ""
    script = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items()) + _PLATFORM + _SCRIPT
    return parse(text_of(host.run(["sh", "-s"], script.encode(), 6.0 * PATIENCE)), host.name)


def platform(host: Host) -> Pythons:
    """Return what a host is, without its Pythons."""
    return parse(text_of(host.run(["sh", "-s"], _PLATFORM.encode())), host.name)


def parse(output: str, host: str) -> Pythons:
    """Return the Pythons that have said what they are. One that was asked under several names is there once."""
    rows = [line.split("\t")[1:] for line in output.splitlines() if line.startswith("\tsheepdog:")]
    system = next((row[1:] for row in rows if row[0] == "sheepdog:system" and len(row) == 4), ["", "", ""])
    setup = next((row[1] for row in rows if row[0] == "sheepdog:setup" and len(row) == 2), None)
    found: dict[tuple[str, str], Found] = {}
    said = (row for row in rows if row[0] == "sheepdog:python" and len(row) == 12 and row[1].isdigit())
    for row in sorted(said, key=_number):
        found.setdefault((row[9], row[10]), Found._make([*row[2:9], row[11]]))
    name, machine, libc = system
    return Pythons(host, name, machine, libc, tuple(found.values()), setup)


def _number(row: list[str]) -> int:
    return int(row[1])


def choose(pythons: Sequence[Found], fits: Callable[[Mapping[str, str]], bool], own: Mapping[str, str]) -> Found | None:
    """Return the best Python for a request, None if there is none. fits tells which can load its function.

    Best is what the lines of setup lead to: the user has chosen it. Then one of the bytecode of own, the Python here:
    any function can go there, and does as it does here. Then the newest CPython; then any other. Of those that are as
    good, the one that was looked for first: what a shell finds on the head node is likely to be on the nodes. If it is
    not, or is another, the job file or the worker's first call says so.
    """
    usable = [each for each in pythons if each.usable and fits(each.facts)]
    if usable and usable[0].where == SETUP:
        return usable[0]
    alike = ("implementation", "magic")
    for each in usable:
        if all(each.facts[fact] == own.get(fact) for fact in alike):
            return each
    return max(usable, key=lambda each: (each.implementation == "cpython", each.numbers[:2]), default=None)
