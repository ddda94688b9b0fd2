"""What a Grid Engine site calls memory, GPUs and the slots of one host: read from what qconf says of complexes."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..config import Config
from ..errors import SchedulerError

LOOK = 'qconf -sc && for pe in $(qconf -spl 2>/dev/null); do qconf -sp "$pe"; done'
MEMORY = ("h_vmem", "mem_free", "virtual_free", "h_rss", "mem", "memory", "ram")
GPUS = ("gpu", "gpus", "ngpus", "num_gpus", "gpu_card", "cuda")
ENVIRONMENTS = ("smp", "threaded", "threads", "openmp", "multicore", "shm")


class Site(NamedTuple):
    """The names; as they are here, those that most sites use."""

    memory: str = "h_vmem"
    gpu: str = "gpu"
    environment: str = "smp"
    per_job: frozenset[str] = frozenset()
    """The complexes that count once for a job. Grid Engine multiplies all others by the slots, also limits (h_vmem)."""

    system: str = ""
    """Which batch system it is, where that is not known before."""

    def share(self, name: str, amount: int, slots: int) -> int:
        """Return what to request of a complex, so that a job of so many slots gets the amount, or a little more."""
        return amount if name in self.per_job else -(-amount // slots)


USUAL = Site()


def named(config: Config) -> Site:
    """Return the names that the options say, and the usual ones for the rest."""
    return Site(
        config.memory_resource or USUAL.memory,
        config.gpu_resource or USUAL.gpu,
        config.parallel_environment or USUAL.environment,
    )


def is_known(config: Config) -> bool:
    """Tell whether the options say all that a job needs, so that the site need not be asked."""
    needs_memory = config.memory is not None and (config.memory_resource is None or config.cpus is not None)
    return not (needs_memory or config.gpus is not None or (config.cpus and config.parallel_environment is None))


def parse_site(output: bytes, config: Config) -> Site:
    """Return the names of a site, from `qconf -sc` and `qconf -sp` of each parallel environment.

    Raises SchedulerError if there is none for what the options ask, with those that there are.
    """
    text = output.decode(errors="replace")
    complexes = parse_complexes(text)
    per_job = frozenset(name for name, (_, counts) in complexes.items() if counts == "JOB")
    site = named(config)
    memory, gpu, environment = site.memory, site.gpu, site.environment
    if config.memory is not None and config.memory_resource is None:
        memory = _memory(complexes, memory)
    if config.gpus is not None and config.gpu_resource is None:
        gpu = _gpu(complexes)
    if config.cpus is not None and config.parallel_environment is None:
        environment = _environment(text, config.cpus)
    if config.gpus and config.cpus and gpu not in per_job and config.gpus % config.cpus:
        raise SchedulerError(
            f"the site's Grid Engine counts {gpu} once for each slot: {config.gpus} gpus cannot be shared by "
            f"{config.cpus} cpus. Give a number of gpus that is a multiple of cpus, or leave cpus out"
        )
    return Site(memory, gpu, environment, per_job)


def _memory(complexes: dict[str, tuple[str, str]], usual: str) -> str:
    """Return the resource for memory: one that is counted, or else the usual one."""
    known = [name for name in MEMORY if name in complexes]
    found = next((name for name in known if complexes[name][1] != "NO"), usual if usual in known else "")
    _require(found, "memory", "memory_resource", "qconf -sc", _of_kind(complexes, "MEMORY"))
    return found


def _gpu(complexes: dict[str, tuple[str, str]]) -> str:
    """Return the resource for graphics processors."""
    found = next((name for name in GPUS if name in complexes), "")
    _require(found, "gpus", "gpu_resource", "qconf -sc", _of_kind(complexes, "INT", "RSMAP"))
    return found


def _environment(text: str, cpus: int) -> str:
    """Return a parallel environment that has so many slots on one host, from `qconf -sp` of each."""
    rules = dict(re.findall(r"^pe_name +(\S+)$.*?^allocation_rule +(\S+)$", text, re.MULTILINE | re.DOTALL))
    on_one_host = [name for name, rule in rules.items() if rule in ("$pe_slots", str(cpus))]
    found = next((name for name in (*ENVIRONMENTS, *on_one_host) if name in on_one_host), "")
    others = [f"{name} ({rule})" for name, rule in rules.items()]
    _require(found, "cpus", "parallel_environment", "qconf -spl", others)
    return found


def parse_complexes(text: str) -> dict[str, tuple[str, str]]:
    """Return what can be requested of a site, from `qconf -sc`: names, each with its type and how it is counted."""
    row = r"^(\S+) +\S+ +(\w+) +\S+ +(YES|FORCED) +(YES|NO|JOB|HOST)\b"
    return {name: (kind, counts) for name, kind, _, counts in re.findall(row, text, re.MULTILINE)}


def _of_kind(complexes: dict[str, tuple[str, str]], *kinds: str) -> list[str]:
    return [name for name, (kind, _) in complexes.items() if kind in kinds]


def _require(found: str, key: str, option: str, command: str, there: list[str]) -> None:
    if found:
        return
    what = (
        "parallel environment whose slots are all on one host ($pe_slots)" if key == "cpus" else f"resource for {key}"
    )
    raise SchedulerError(
        f"the site's Grid Engine has no {what} that Sheepdog knows; `{command}` lists {', '.join(there) or 'none'}. "
        f"Ask the site's administrators, and name the right one with the option {option}; or leave {key} out"
    )
