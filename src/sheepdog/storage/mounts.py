"""Tells on what kind of file system a path lies: SQLite is safe on local ones only."""

import os
import re
from pathlib import Path

NETWORK = {
    *("9p", "acfs", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "gfs2", "gpfs", "lustre", "ncpfs"),
    *("nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "vboxsf", "wekafs", "fuse.ceph"),
    *("fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.mfs", "fuse.moosefs"),
    *("fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse"),
}
"""Types on which locks or shared memory do not reach every process that uses a file, or may not."""


def network_file_system(path: str | os.PathLike[str], mountinfo: str | None = None) -> str | None:
    """Return the type of a path's file system if SQLite is not safe on it, else None.

    The path need not exist. mountinfo is the text of /proc/self/mountinfo; elsewhere than on Linux there is none.
    """
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return None
    place = os.path.realpath(path)
    length, found = 0, ""
    for point, kind in _mounts(mountinfo):
        if len(point) >= length and (place + "/").startswith(point.rstrip("/") + "/"):
            length, found = len(point), kind  # of two mounts in one place, the later one hides the other
    return found if found in NETWORK else None


def _mounts(mountinfo: str) -> list[tuple[str, str]]:
    """Return each mount's place and type. proc(5): ID PARENT DEVICE ROOT PLACE OPTIONS [MORE...] - TYPE SOURCE ..."""
    mounts = []
    for line in mountinfo.split("\n"):
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if separator and len(fields) >= 6:
            # Blanks and backslashes are written as octal numbers, byte by byte.
            raw = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 255]), os.fsencode(fields[4]))
            mounts.append((os.fsdecode(raw), kind))
    return mounts
