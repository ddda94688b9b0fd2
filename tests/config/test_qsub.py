"""The grammar of raw options of qsub; which of them a configuration refuses is in test_config.py."""

import pytest

from sheepdog.config import qsub


def test_gives() -> None:
    options = ("-wd $HOME/x", "-j y -o $HOME/out")
    assert qsub.gives(options, "-wd", "-cwd")
    assert qsub.gives(options, "-j")
    assert qsub.gives(options, "-o")
    assert not qsub.gives(options, "-e")
    assert not qsub.gives(options, "-cwd")
    assert not qsub.gives((), "-wd")


@pytest.mark.parametrize(
    ("options", "memory", "walltime"),
    [
        ((), None, None),
        (("-l mem_grab=1k", "-l h=node1,mem_grab=2k"), 2048, None),
        (("-v mem_grab=1X", "-v h_rt=100"), None, None),
        (("-l h_rt=100 -l s_rt=90",), None, 90),
        (("-l h_rt=INFINITY,s_rt=1:30:00",), None, 5400),
    ],
)
def test_limits(options: tuple[str, ...], memory: int | None, walltime: int | None) -> None:
    assert (qsub.memory(options), qsub.walltime(options)) == (memory, walltime)


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ((), ("-l h=!(a|a.*|b|b.*)", "-w e")),
        (("-l h_rt=9", "-w n"), ("-l h=!(a|a.*|b|b.*)",)),
        (("-l h=c*,h_rt=9",), ("-l h=(c*)&!(a|a.*|b|b.*)", "-w e")),
        (("-l hostname=a|c",), ("-l h=(a|c)&!(a|a.*|b|b.*)", "-w e")),
        (("-l h=a.cluster|b",), ()),  # there would be none
    ],
)
def test_hosts_to_avoid(options: tuple[str, ...], added: tuple[str, ...]) -> None:
    assert qsub.avoiding(options, ("a", "b")) == (*options, *added)
    assert qsub.avoiding(options, ()) == options
