"""The directory of an array job on its host, after the submission: what can be read and changed there.

Directories are absolute, or relative to the home directory there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import BinaryIO

from ..errors import CommandFailed, HostError
from ..values.model import ArrayJob
from .folders import BUNDLES, KINDS, PYTHONS
from .hosts import Host
from .last_words import telling
from .upload import STORE

_BETWEEN = "--- another file"

MARK = "array_job"  # the file that says whose directory it is: it holds the array job's name
KEEP = "keep"  # the file that says for how many minutes it stays when its request has ended
USUAL = (
    "^[0-9: -]{19} worker [0-9a-f]{8}: (on .*|ends: (nothing left to do|the server says 410.*))$"  # see client/main.py
)
OLD, ABANDONED = 30 * 24 * 60, 365 * 24 * 60  # minutes: if it does not say; and at least, if nobody has seen its end
HALF = 24 * 60  # minutes: a folder that has not come to its end in them never will
NAME = r"[^/\0\n]+_[0-9]{3,}_[0-9a-f]{8}"  # of an array job, and so of its directory
PIECE = 8 << 20  # bytes of a file that are in memory at once


def run(host: Host, directory: str, script: str, *arguments: str, input: bytes = b"", timeout: float = 60.0) -> bytes:
    """Run a shell script in the directory; its arguments are $2 and so on. The script has one line, without "!"."""
    return host.run(["sh", "-c", f'cd && cd "$1" && {script}', "sh", directory, *arguments], input, timeout)


def find(host: Host, array: ArrayJob, job_id: Callable[[str], str]) -> ArrayJob | None:
    """Return an array job whose submission nobody saw to its end; None if there was none.

    job_id is the scheduler's parser of what submitting printed.
    """
    try:
        found = run(host, array.directory, "[ -s job_id ] && cat job_id && pwd").decode(errors="replace")
    except CommandFailed:
        return None
    job, directory = found.strip().splitlines()[-2:]
    return replace(array, job=job_id(job), directory=directory)


def rewrite(host: Host, directory: str, name: str, content: bytes) -> None:
    """Replace a file."""
    run(host, directory, '{ umask 077 && cat >"$2.new" && mv -f "$2.new" "$2"; }', name, input=content)


def spooled(host: Host, directory: str) -> list[str]:
    """Return the names of the files in which workers left outcomes that they could not deliver."""
    names = run(host, directory, "{ ls spool 2>/dev/null || true; }").decode(errors="replace").split()
    return [name for name in names if re.fullmatch(r"[0-9a-f]+-[0-9]+", name)]


def fetch(host: Host, directory: str, name: str, file: BinaryIO) -> None:
    """Write what is in such a file into one that is here: in pieces, for it may be larger than the memory."""
    script = 'dd if="spool/$2" bs=65536 skip="$3" count="$4" 2>/dev/null'
    at = 0
    while True:
        piece = run(host, directory, script, name, str(at), str(PIECE // 65536), timeout=600.0)
        file.write(piece)
        if len(piece) < PIECE:
            return
        at += PIECE // 65536


def discard(host: Host, directory: str, names: Iterable[str]) -> None:
    """Remove such files."""
    run(host, directory, 'shift && for name; do rm -f "spool/$name"; done', *names)


def close(host: Host, place: str, names: Iterable[str]) -> None:
    """Take the secrets out of the directories of array jobs whose request has ended."""
    _each(host, place, names, 'rm -f "./$name/secret.json"')


def remove(host: Host, place: str, names: Iterable[str]) -> None:
    """Remove the directories of array jobs.

    That is what lies in place under their names, is no link, and has our mark of that name; nothing else, whatever the
    store says. place is the option ssh_dir.
    """
    # What another machine has open on NFS can stay behind: with its mark, so that it is found again.
    again = f'{{ echo "$name" >"./$name/{MARK}"; exit 1; }}'
    _each(host, place, names, f'if {_OURS}; then rm -rf "./$name" || {again}; fi')


def tidy(host: Host, place: str, names: Iterable[str]) -> None:
    """Leave in the directories of array jobs that are over what tells of them: what workers wrote, and the job file.

    Of a worker's output, only if there is more than what all of them write.
    """
    needless = "rm -rf secret.json uses submit.sh attempted submitted found job_id.* *.pyz *.zip"
    usual = f"grep -LvE '{USUAL}' *.o*[0-9] worker.*.log 2>/dev/null"
    empty = "find . -type f -size 0 -exec rm -f {} +; rmdir spool 2>/dev/null"
    tell = f'{needless}; {usual} | while read -r file; do rm -f "./$file"; done; {empty}; true'
    _each(host, place, names, f'if {_OURS}; then (cd "./$name" && {tell}); fi')


def sweep(host: Host, place: str) -> None:
    """Remove the directories of array jobs in which nothing has changed for as long as they are to stay.

    One that has a secret still may wait in a scheduler's queue: it stays for a year at least. Archives go that no job
    has a link to, and none has had for long; and bundles that no request has needed for long: workers fetch one that
    they find missing. Interpreters go that no request has needed for a year; and what has come half.
    """
    host.run(["sh", "-s", posixpath.normpath(place.removeprefix("~/"))], _SWEEP.encode(), timeout=600.0)


_OURS = f'[ "$(cat "./$name/{MARK}" 2>/dev/null)" = "$name" ]'
_SWEEP = f"""
cd && cd "$1" 2>/dev/null || exit 0
me=$(id -u)
old() {{ find "$1/." ! -name . -prune -type d -name "$2" -user "$me" -mmin +"$3" 2>/dev/null; }}
old . '*_[0-9][0-9][0-9]*_{"[0-9a-f]" * 8}' 0 | while read -r path; do
  name=${{path##*/}} mark= keep=
  read -r mark 2>/dev/null <"./$name/{MARK}"
  read -r keep 2>/dev/null <"./$name/{KEEP}"
  [ "$mark" = "$name" ] || continue
  case $keep in ''|*[!0-9]*|??????????*) keep={OLD};; esac
  if [ -e "./$name/secret.json" ] && [ $keep -lt {ABANDONED} ]; then keep={ABANDONED}; fi
  new=$(find "./$name" -mmin -"$keep" 2>&1) && [ -z "$new" ] && rm -rf "./$name"
done
stale() {{ [ -h "$1" ] || old "./$1" "$2" "$3" | while read -r path; do rm -rf "$path"; done; }}
stale {BUNDLES} '*' {OLD}
stale {PYTHONS} '*' {ABANDONED}
for kind in {" ".join(KINDS)}; do stale $kind '*.{"[0-9a-f]" * 16}' {HALF}; done
if [ ! -h {STORE} ]; then find {STORE} -type f -user "$me" -links 1 -mmin +{OLD} -exec rm -f {{}} + 2>/dev/null; fi
true
"""


def _each(host: Host, place: str, names: Iterable[str], command: str) -> None:
    place = posixpath.normpath(place.removeprefix("~/"))
    names = [name for name in names if re.fullmatch(NAME, name)]
    script = f'cd && cd "$1" 2>/dev/null || exit 0; shift; for name; do [ -h "./$name" ] || {command} || exit 1; done'
    host.run(["sh", "-c", script, "sh", place, *names])


def fallen(host: Host, directory: str) -> list[str]:
    """Return the hosts on which workers could not start, by what job files have written there."""
    script = "{ sed -n 's/^sheepdog: on \\([^ ]*\\) .*/\\1/p' *.e*[0-9] *.o*[0-9] 2>/dev/null; true; }"
    try:
        return sorted({*run(host, directory, script).decode(errors="replace").split()})
    except HostError:
        return []


def last_words(host: Host, directory: str) -> str:
    """Return the line that tells most of what workers have written of late, into the scheduler's output files."""
    files = "$(ls -t *.e*[0-9] 2>/dev/null | head -n 4) $(ls -t *.o*[0-9] worker.*.log 2>/dev/null | head -n 4)"
    try:
        said = run(host, directory, f'for file in {files}; do echo "$2"; tail -c 4000 "$file"; echo; done', _BETWEEN)
    except HostError:
        return ""
    return telling(said.decode(errors="replace").split(f"{_BETWEEN}\n"))[-500:]
