"""Puts files into a private directory of a host and runs one of them there, in one round trip."""

import hashlib
import io
import posixpath
import re
from collections.abc import Mapping

from ..errors import CommandFailed
from .commands import command_failed, text_of
from .hosts import Host

# Login shells differ, and csh takes neither newlines nor "!": they only see this. sh then reads a program of one line.
_READ = 'IFS= read -r program && eval "$program"'

# The program reads four lines, then a tar archive: the directory, its parent (empty if that is not ours to change), the
# script, and the archives among the files, each as HASH:NAME. Files come into place by rename. The script finds the
# user's own umask in $umask. tar -m and -o: no owners, and no complaints about clocks.
#
# Who can rename a part of the path can put a program of theirs in the worker's place. So each part must belong to the
# user or to root, and nobody else may write there, unless it is sticky as /tmp is. A group of the user's own name
# counts as the user, and so does who owns the home directory; root's group counts as root. sshd treats keys like that.
#
# Archives are the same for many jobs. The parent keeps each once, by its hash, and every job has a hard link to it: so
# it stays while a job needs it, whoever takes it out of the store. To make a link is one step, on NFS too: of two that
# come at once the one gives its file, and the other, which compares them, takes that. What cannot be shared is not, and
# of what is refused nothing is left.
_PROGRAM = r"""
refuse() { echo "$1: $2, or set ssh_dir to a directory of your own" >&2; exit 1; };
look() { set -- $(LC_ALL=C ls -ldn "$1"); mode=$1 owner=$3 group=$4; };
safe() {
  look "$1";
  case $mode in [ld]*) ;; *) refuse "$1 is not a directory" "remove it";; esac;
  case $owner in 0|$me|$master) ;; *) refuse "$1 belongs to another user ($owner)" "remove it";; esac;
  case $mode in
    d????????[tT]*|l*) ;;
    d???????w*) refuse "$1 can be changed by others ($mode)" "chmod go-w it";;
    d????w*) case $group in 0|$own) ;; *) refuse "$1 can be changed by its group ($mode)" "chmod g-w it";; esac;;
  esac;
};
walk() {
  rest=$1; at=.; case $rest in /*) at=; safe /;; *) safe .;; esac;
  while rest=${rest#*/}; at=$at/${rest%%/*}; safe "$at"; do
    case $mode in l*) real=$(cd -P "$at" && pwd -P) && (walk "$real") || exit 1;; esac;
    case $rest in */*) ;; *) break;; esac;
  done;
};
make() {
  [ -h "$1" ] && refuse "$1 is a link" "set ssh_dir to where it leads";
  mkdir -p "$1" || refuse "$1 cannot be made" "make room for it";
};
share() {
  kept=../archives/${1%%:*} new=.share.$$ name=${1#*:};
  ln "$name" "$kept" && return;
  if cmp -s "$name" "$kept"; then
    touch -c "$kept"; ln "$kept" $new && mv -f $new "$name";
  else
    ln "$name" $new && mv -f $new "$kept";
  fi;
  rm -f $new;
};
store() {
  if [ -z "$p" ] || [ -z "$a" ] || [ -h ../archives ]; then return; fi;
  mkdir ../archives;
  look ../archives; case "$owner $mode" in "$me d"*) ;; *) return;; esac;
  for one in $a; do share "$one"; done;
};

export umask=$(umask); umask 077; set -f;
cd "${HOME:-.}" && IFS= read -r d && IFS= read -r p && IFS= read -r s && IFS= read -r a || exit 1;
me=$(id -u) own=0; [ "$(id -un)" = "$(id -gn)" ] && own=$(id -g);
look .; master=$owner;
if [ -n "$p" ]; then
  make "$p"; look "$p";
  case "${p##*/} $owner $mode" in ".sheepdog $me "?????????[tT]*) ;; ".sheepdog $me "*) chmod 700 "$p";; esac;
  walk "$p";
fi;
make "$d"; look "$d"; [ $owner = $me ] || refuse "$d belongs to another user ($owner)" "remove it";
chmod 700 "$d" && cd "$d" && set +f && n=.new.$$ && rm -rf $n && mkdir $n &&
{ tar -xmof - -C $n && mv -f $n/* . && rmdir $n || { rm -rf $n; refuse "$d cannot hold the files" "make room"; }; } &&
{ sh "./$s" </dev/null; status=$?; [ $status -ne 0 ] || store >/dev/null 2>&1; exit $status; }
"""

STORE = "archives"  # the directory of those that jobs share
ARCHIVES = (".pyz", ".zip")


def upload_and_run(
    host: Host, directory: str, files: Mapping[str, bytes], script: str, timeout: float = 300.0
) -> bytes:
    """Put files into a private directory, run one of them there with sh, and return its output, in one round trip.

    directory is relative to the home directory, or absolute. It gets the mode 0700, the files 0600. A path in which
    others could put something else in its place is a CommandFailed that says which part, and what to do.
    Archives are kept once in its parent, for all directories there.
    The contents travel over standard input, so no process list shows them. Doing it again replaces the files.
    """
    path = posixpath.normpath(directory.removeprefix("~/"))
    if not re.fullmatch(r"[^\n\0]+", path) or path in (".", "/"):
        raise ValueError(f"not a directory to put files into: {directory!r}")
    parent = posixpath.dirname(path)
    shared = (f"{hashlib.sha256(files[name]).hexdigest()}:{name}" for name in files if name.endswith(ARCHIVES))
    header = [" ".join(_PROGRAM.split("\n")), path, parent.rstrip("/"), script, " ".join(shared)]
    if not path.startswith("/"):
        header[1:3] = [f"./{path}", f"./{parent}" if parent else ""]
    input = "".join(f"{line}\n" for line in header).encode() + _archive(files, script)
    try:
        return host.run(["sh", "-c", _READ], input, timeout)
    except CommandFailed as error:
        what = f"putting {len(files)} files into {directory} and running {script}"
        raise command_failed(what, host.name, error.status, error.output, error.errors) from None


def marks(output: bytes) -> dict[str, str]:
    """Find the lines `sheepdog:KEY value` that a script printed, whatever else is in its output."""
    lines = re.findall(r"^sheepdog:(\S+)(?: (.*?))?\r?$", text_of(output), re.MULTILINE)
    return dict(lines)


def _archive(files: Mapping[str, bytes], script: str) -> bytes:
    import tarfile  # slow to import, and only some need it

    if script not in files:
        raise ValueError(f"the script {script!r} is not among the files")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files, key=lambda name: name == script):  # last: if it came, everything came
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,98}", name):
                raise ValueError(f"not a file name to upload: {name!r}")
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o600
            tar.addfile(member, io.BytesIO(files[name]))
    return archive.getvalue()
