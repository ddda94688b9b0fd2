"""What a Grid Engine site calls memory, GPUs and slots, beyond what test_gridengine.py asks of captured sites."""

import pytest

from sheepdog.config import Config
from sheepdog.errors import SchedulerError
from sheepdog.schedulers.site import USUAL, Site, is_known, named, parse_complexes, parse_site

COMPLEXES = """\
#name               shortcut   type      relop requestable consumable default  urgency
h_vmem              h_vmem     MEMORY    <=    YES         NO         0        0
mem_free            mf         MEMORY    <=    YES         YES        0        0
num_proc            p          INT       ==    NO          NO         0        0
gpus                g          INT       <=    YES         JOB        0        0
"""


def test_what_can_be_requested() -> None:
    assert parse_complexes(COMPLEXES) == {
        "h_vmem": ("MEMORY", "NO"),
        "mem_free": ("MEMORY", "YES"),
        "gpus": ("INT", "JOB"),
    }


def test_a_memory_that_is_counted_goes_before_a_mere_limit() -> None:
    site = parse_site(COMPLEXES.encode(), Config(memory="4G", gpus=1))
    assert (site.memory, site.gpu, site.per_job) == ("mem_free", "gpus", frozenset({"gpus"}))


@pytest.mark.parametrize(
    ("config", "known"),
    [
        (Config(), True),
        (Config(memory="4G"), False),
        (Config(memory="4G", memory_resource="m", cpus=2, parallel_environment="smp"), False),
        (Config(memory="4G", memory_resource="m"), True),
        (Config(gpus=1), False),
        (Config(cpus=2), False),
    ],
)
def test_whether_a_site_need_be_asked(config: Config, known: bool) -> None:
    assert is_known(config) == known


def test_names_of_the_options_and_the_usual_ones_for_the_rest() -> None:
    assert named(Config(memory_resource="ram")) == Site("ram", USUAL.gpu, USUAL.environment)


@pytest.mark.parametrize(("amount", "slots", "each"), [(8, 4, 2), (9, 4, 3), (1, 4, 1)])
def test_what_is_multiplied_by_the_slots_is_shared_by_them(amount: int, slots: int, each: int) -> None:
    assert Site().share("h_vmem", amount, slots) == each
    assert Site(per_job=frozenset({"h_vmem"})).share("h_vmem", amount, slots) == amount


def test_what_a_site_does_not_have_is_said_with_what_there_is() -> None:
    with pytest.raises(SchedulerError, match=r"no parallel environment .* mpi \(\$fill_up\).* parallel_environment"):
        parse_site(COMPLEXES.encode() + b"pe_name mpi\nslots 9\nallocation_rule $fill_up\n", Config(cpus=2))
