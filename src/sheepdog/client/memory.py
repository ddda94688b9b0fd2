"""Memory: what a process had, what it may have, and whether the kernel has killed for want of it."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def limit_memory(limit: int) -> None:
    """Limit the address space of this process, in bytes."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def address_limit() -> "list[int]":
    """Return the limit of this process's address space, if there is one."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if limit == resource.RLIM_INFINITY else [limit]


def peak_memory() -> int:
    """Return the most memory that this process has had: addresses where they are known, as they are limited."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmPeak:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return peak_resident()


def peak_resident() -> int:
    """Return the peak resident memory of this process, in bytes."""
    import resource

    return resident(resource.getrusage(resource.RUSAGE_SELF))


def forget_peak() -> None:
    """Let the peak resident memory of this process be what it has now, if the kernel can: Linux."""
    try:
        file = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(file, b"5")
    except OSError:
        pass
    finally:
        os.close(file)


def resident(usage: "Any") -> int:
    """Return the peak resident memory of a resource usage, in bytes."""
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def memory_groups() -> "list[str]":
    """Return the directories of this process's control groups that count memory: version 2, version 1."""
    found = []
    try:
        with open("/proc/self/cgroup") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if controllers in ("", "memory"):
                    found.append("/sys/fs/cgroup/" + (controllers + path).strip("/"))
    except (OSError, ValueError):
        pass
    return found


def kernel_says(path: str, key: str) -> "list[int]":
    """Return the number behind a key in a file of the kernel's, if both are there."""
    try:
        with open(path) as file:
            return [int(line.split()[1]) for line in file if line.split()[0] == key]
    except (OSError, ValueError, IndexError):
        return []


def memory_kills() -> "list[int]":
    """Return how often the kernel has killed for want of memory: in our control groups, or else on this machine."""
    places = [group + name for group in memory_groups() for name in ("/memory.events", "/memory.oom_control")]
    found = [number for path in places for number in kernel_says(path, "oom_kill")]
    return found or kernel_says("/proc/vmstat", "oom_kill")


def group_limits() -> "list[int]":
    """Return the limits of memory of our control groups."""
    found = []
    for group in memory_groups():
        for name in ("/memory.max", "/memory.limit_in_bytes"):
            try:
                with open(group + name) as file:
                    found.append(int(file.read()))
            except (OSError, ValueError):  # "max": none
                pass
    return [limit for limit in found if limit < 1 << 60]  # version 1 writes a number of 19 digits for none
