"""The options of a request, as versions of all ages have stored them."""

import json
import os
from dataclasses import asdict, fields
from typing import Any

import pytest

from sheepdog.config import Config
from sheepdog.config.options import CLUSTER_WORKERS, FIRST_WORKERS, STANDING_WORKERS, Options
from sheepdog.errors import ConfigError

CORES = len(os.sched_getaffinity(0))
FULL = Config(
    host="fear",
    scheduler="slurm",
    ge_opts=("-l h_rt=60",),
    setup=("module load x",),
    env=(("A", "1"),),
    slurm_opts=["--time=1", "--nice"],  # type: ignore[arg-type]
    time="2h",
    memory="2G",
    on_oom="2x",
    workers=9,
)


def test_what_is_stored_is_read_again() -> None:
    options = Options(FULL, "/here", {"pid": 7})
    assert Options.read(json.loads(json.dumps(options.stored()))) == options


def test_the_keys_that_are_stored() -> None:
    """Databases are read by the version before, too."""
    assert Options(FULL, "/here", {"pid": 7}).stored() == {**asdict(FULL), "directory": "/here", "maker": {"pid": 7}}
    assert {"scheduler", "poll_interval", "lease"} < Options(FULL).stored().keys()


def test_options_of_any_age_are_read() -> None:
    """Those of an older version lack keys; those of a newer one have more."""
    found = Options.read({"scheduler": "local", "host": None, "lease": 9, "of the future": 1, "directory": "/here"})
    assert found == Options(Config(scheduler="local", lease=9.0), "/here", {})
    assert Options.read({}) == Options(Config())
    assert Options.read({}).scheduler == ""


@pytest.mark.parametrize(
    ("key", "stored", "read"),
    [
        ("lease", 0.2, 0.2),  # shorter than it may be now
        ("scheduler", "of the future", "of the future"),
        ("ge_opts", ["-t 1-3"], ("-t 1-3",)),
        ("on_oom", "2x", "2x"),  # without a memory
        ("retries", 3, 3),
    ],
)
def test_what_would_be_refused_now_is_read_as_it_is(key: str, stored: Any, read: Any) -> None:
    config = Options.read({key: stored}).config
    assert getattr(config, key) == read
    others = [field for field in fields(Config) if field.name != key]
    assert all(getattr(config, field.name) == field.default for field in others)


@pytest.mark.parametrize(
    ("stored", "here"),
    [
        ({"scheduler": "local"}, True),
        ({"scheduler": "local", "host": "fear"}, False),
        ({"scheduler": "gridengine"}, False),
    ],
)
def test_which_workers_are_processes_of_this_machine(stored: dict[str, Any], here: bool) -> None:
    assert Options.read(stored).here == here


@pytest.mark.parametrize(
    ("stored", "tasks", "first", "workers"),
    [
        ({}, 5, 5, 5),
        ({}, 100_000, FIRST_WORKERS, CLUSTER_WORKERS),
        ({}, None, FIRST_WORKERS, STANDING_WORKERS),
        ({"workers": 70}, 100_000, 70, 70),
        ({"workers": 70}, 5, 5, 5),
        ({"workers": 70}, None, 70, 70),
        ({"scheduler": "local"}, 100_000, CORES, CORES),
        ({"scheduler": "local"}, None, CORES, CORES),
        ({"scheduler": "local", "cpus": 2 * CORES}, 100_000, 1, 1),
        ({"scheduler": "local", "workers": 90}, 100, 90, 90),
    ],
)
def test_how_many_workers(stored: dict[str, Any], tasks: int | None, first: int, workers: int) -> None:
    options = Options.read({"scheduler": "gridengine", **stored})
    assert (options.first_workers(tasks), options.workers(tasks)) == (first, workers)


@pytest.mark.parametrize(
    ("key", "value"),
    [("poll_interval", "soon"), ("lease", None), ("host", ["head"]), ("ge_opts", "-l a"), ("time", [7])],
)
def test_a_stored_value_of_another_kind_is_of_no_use(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{key} is .*, as it was stored"):
        Options.read({key: value}).require_kinds()


def test_a_stored_value_that_would_be_refused_now_is_of_use() -> None:
    Options.read({"poll_interval": 0, "cpus": -1, "host": "a b", "unknown": 7}).require_kinds()


@pytest.mark.parametrize(
    ("host", "scheduler", "link", "relays", "calls"),
    [
        ("fear", "slurm", "auto", True, True),
        ("fear", "slurm", "direct", False, True),
        ("fear", "slurm", "relay", True, False),
        ("fear", "local", "auto", True, True),
        (None, "slurm", "auto", False, True),
        (None, "local", "auto", False, False),
    ],
)
def test_by_which_ways_workers_may_call(host: str | None, scheduler: str, link: str, relays: bool, calls: bool) -> None:
    options = Options(Config(host=host, scheduler=scheduler, link=link))
    assert (options.relays, options.calls) == (relays, calls)
