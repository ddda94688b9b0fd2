"""The private directory of ssh's control sockets and configurations."""

import hashlib
import os
import stat
import tempfile
from itertools import takewhile
from pathlib import Path

from ..errors import HostError
from ..values import account

# A socket's path has at most 103 bytes (macOS). ssh binds it as PATH.0123456789abcdef first.
DIRECTORY_MAX = 103 - len("/0123456789abcdef.0123456789abcdef")


def control_directory() -> Path:
    """Make and check the private directory of the control sockets."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    choices = [Path(runtime, "sheepdog")] if runtime else []
    choices.append(account.home() / ".cache" / "sheepdog" / "ssh")
    choices.append(Path(tempfile.gettempdir(), f"sheepdog-{os.getuid()}"))
    faults = []
    for choice in choices:
        fault = make_private(choice, parents=choice is choices[-2])
        if fault is None:
            return choice
        faults.append(f"{choice} {fault}")
    raise HostError(
        f"no private directory for ssh's control sockets: {'; '.join(faults)} "
        "(set XDG_RUNTIME_DIR to a directory of your own with a short name)"
    )


def make_private(directory: Path, parents: bool) -> str | None:
    """Make a directory that is ours alone, and say what is wrong if it cannot be."""
    if len(os.fsencode(directory)) > DIRECTORY_MAX:
        return "is too long a name"
    try:
        missing = takewhile(lambda parent: not parent.exists(), directory.parents) if parents else ()
        for each in [*reversed(list(missing)), directory]:  # mkdir's parents=True would leave them to the umask
            each.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != os.getuid():
        return "belongs to somebody else"
    if found.st_mode & 0o077:
        return "is open to others (chmod 700 it)"
    return None


def private(path: str, flags: int) -> int:
    """Open a file so that, if it is made, nobody else can read it: open()'s opener."""
    return os.open(path, flags, 0o600)


def write_once(directory: Path, text: str) -> Path:
    """Write a file named after its content, readable by nobody else."""
    path = directory / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)
    return path
