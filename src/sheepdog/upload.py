"""Puts files into a private directory of a host and runs one of them there, in one round trip."""

import io
import posixpath
import re
from collections.abc import Mapping

from .deployment import Host, command_failed, text_of
from .errors import CommandFailed

# One line of text without "!", as csh wants. It reads three lines, then a tar archive: the directory, its parent (empty
# if that is not ours to change) and the script. Files come into place by rename; the first line of output ends whatever
# the user's rc files wrote. The script finds the user's own umask in $umask. tar -m and -o: no owners, and no
# complaints about clocks.
_UNPACK = (
    'export umask=$(umask); umask 077; cd "${HOME:-.}" && IFS= read -r d && IFS= read -r p && IFS= read -r s && '
    'if [ -n "$p" ]; then mkdir -p "$p"; case "${p##*/}" in .sheepdog) [ -k "$p" ] || chmod 700 "$p";; esac; fi && '
    'mkdir -p "$d" && chmod 700 "$d" && cd "$d" && n=.new.$$ && rm -rf $n && mkdir $n && '
    "{ tar -xmof - -C $n && mv -f $n/* . && rmdir $n || { rm -rf $n; false; }; } && "
    'echo && exec sh "./$s" </dev/null'
)


def upload_and_run(
    host: Host, directory: str, files: Mapping[str, bytes], script: str, timeout: float = 300.0
) -> bytes:
    """Put files into a private directory, run one of them there with sh, and return its output, in one round trip.

    directory is relative to the home directory, or absolute. It and its parent get the mode 0700, the files 0600.
    The output begins with what the login shell's rc files wrote and an empty line: see marks. The contents travel
    over standard input, so no process list shows them. Doing it again replaces the files.
    """
    path = posixpath.normpath(directory.removeprefix("~/"))
    if not re.fullmatch(r"[^\n\0]+", path) or path in (".", "/"):
        raise ValueError(f"not a directory to put files into: {directory!r}")
    parent = posixpath.dirname(path)
    header = [path, parent.rstrip("/"), script]
    if not path.startswith("/"):
        header[:2] = [f"./{path}", f"./{parent}" if parent else ""]
    input = "".join(f"{line}\n" for line in header).encode() + _archive(files, script)
    try:
        return host.run(["sh", "-c", _UNPACK], input, timeout)
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
