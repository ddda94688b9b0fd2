"""The grammar of raw options of sbatch: which are refused, and what the others say.

It is here, and not with the scheduler, as a Config refuses a wrong option at once, and imports go down.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence

from .checks import options, short

REFUSED = {
    "--array": "use the key workers",
    "-a": "use the key workers",
    "--job-name": "use the key name",
    "-J": "use the key name",
    "--clusters": "use the key host",
    "-M": "use the key host",
    "--parsable": "Sheepdog sets it itself",
    "--wait": "Sheepdog waits itself",
    "-W": "Sheepdog waits itself",
    "--wrap": "Sheepdog submits its workers",
    "--test-only": "nothing would be submitted",
}
BARE = "hHIkOQsvVWX"  # the letters of flags without a value: others may follow in the same word


def check(value: object) -> tuple[str, ...]:
    """Check raw options."""
    slurm_opts = options(value, "sbatch", "--time=60")
    for option in slurm_opts:
        flags = [flag for flag, _ in _words(option)]
        for flag in flags:
            for refused, why in REFUSED.items():
                # sbatch takes the beginning of a long option for the whole, and what follows a short one for its value.
                is_short = len(refused) == 2 and flag == refused
                if is_short or (flag.startswith("--") and len(flag) > 3 and refused.startswith(flag)):
                    raise ValueError(f"must not hold {refused}: {why}")
        if len(flags) > 1 and {"-D", "--chdir"} & {*flags}:
            raise ValueError(f"must hold --chdir in a line of its own; not {short(option)}")
    return slurm_opts


def given(slurm_opts: Iterable[str], *flags: str) -> str | None:
    """Return what options give with one of these flags, the last one if there are several.

    None if they give none of them; an empty text for a flag without a value.
    """
    found = [value for option in slurm_opts for flag, value in _words(option) if flag in flags]
    return found[-1] if found else None


def avoiding(slurm_opts: Sequence[str], hosts: Collection[str]) -> tuple[str, ...]:
    """Return options with which a job is on none of these nodes; if they ask for nodes by name, they stay."""
    if not hosts or given(slurm_opts, "-w", "--nodelist") is not None:
        return tuple(slurm_opts)
    left_out = [*filter(None, [given(slurm_opts, "-x", "--exclude")]), *hosts]
    return *slurm_opts, f"--exclude={','.join(left_out)}"


def walltime(slurm_opts: Iterable[str]) -> int | None:
    """Return the seconds of --time; None if there is no limit."""
    return _seconds(given(slurm_opts, "-t", "--time") or "") or None


def _words(option: str) -> list[tuple[str, str]]:
    """Return the flags of a line of options, each with its value."""
    found: list[tuple[str, str]] = []
    for word in shlex.split(option):
        if word.startswith("--"):
            flag, _, text = word.partition("=")
            found.append((flag, text))
        elif word.startswith("-"):
            while len(word) > 2 and word[1] in BARE:
                found.append((word[:2], ""))
                word = "-" + word[2:]
            found.append((word[:2], word[2:]))
        elif found and not found[-1][1]:
            found[-1] = (found[-1][0], word)
    return found


def _seconds(text: str) -> int:
    """Return the seconds of a time: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; 0 for UNLIMITED and what else."""
    match = re.fullmatch(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?", text)
    if match is None:
        return 0
    days, *parts = (int(part) if part is not None else None for part in match.groups())
    first, second, third = parts
    if days is not None or third is not None:
        hours, minutes, seconds = first or 0, second or 0, third or 0
    else:
        hours, minutes, seconds = 0, first or 0, second or 0
    return (((days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
