"""Keep the tests away from what this machine has: its schedulers, and its user's configuration."""

import contextlib
import functools
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

SCHEDULERS = {
    *("qsub", "qstat", "qdel", "qconf", "qacct", "qhost", "qalter", "qhold", "qmod", "qrls", "qresub", "qrsh"),
    *("sbatch", "squeue", "scancel", "sacct", "sacctmgr", "scontrol", "sinfo", "srun", "salloc"),
    *("bsub", "bjobs", "bkill", "condor_submit", "condor_q", "flux"),
}
FOREIGN = ("DRMAA_", "PBS_", "SBATCH_", "SGE_", "SHEEPDOG_", "SLURM_", "XDG_")
SOURCE = ".source"  # in a shadow, a link to the directory that it stands for


def seclude(environ: MutableMapping[str, str], directory: Path) -> None:
    """Leave no scheduler in this environment, and no configuration; the directory holds what takes their places."""
    for variable in [name for name in environ if name.startswith(FOREIGN)]:
        del environ[variable]
    environ["XDG_CONFIG_HOME"] = str(directory / "config")
    environ["XDG_STATE_HOME"] = str(directory / "state")
    path = environ.get("PATH", os.defpath).split(os.pathsep)
    environ["PATH"] = os.pathsep.join(str(hidden(Path(part), directory)) for part in path)


def hidden(part: Path, directory: Path) -> Path:
    """Return this part of PATH; or, if a scheduler is in it, a shadow with links to all else that is there."""
    if (part / SOURCE).is_symlink():
        if part.stat().st_mtime_ns <= (part / SOURCE).stat().st_mtime_ns:  # packages have been installed
            fill(part)
        return part
    if not part.is_dir() or not holds_schedulers(part, part.stat().st_mtime_ns):
        return part
    shadow = Path(tempfile.mkdtemp(prefix="path-", dir=directory))
    (shadow / SOURCE).symlink_to(part.absolute())
    fill(shadow)
    shadow.chmod(0o755)
    return shadow


@functools.cache
def holds_schedulers(part: Path, changed: int) -> bool:
    """Whether a scheduler is in a directory that was last changed at this time; so each is looked through once."""
    return any(os.path.lexists(part / name) for name in SCHEDULERS)


def fill(shadow: Path) -> None:
    source = (shadow / SOURCE).readlink()
    for name in {*os.listdir(source)} - SCHEDULERS:
        with contextlib.suppress(FileExistsError):
            (shadow / name).symlink_to(source / name)
    os.utime(shadow)
