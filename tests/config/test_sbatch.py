"""The grammar of raw options of sbatch; which of them a configuration refuses is in test_config.py."""

import pytest

from sheepdog.config import sbatch

OPTIONS = ("-p long --hold", "-Hn2", "--comment='-a there'", "--time 10", "--time=20 --nice")


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (("-p", "--partition"), "long"),
        (("--hold",), ""),
        (("-H",), ""),
        (("-n",), "2"),
        (("--comment",), "-a there"),
        (("-a",), None),
        (("-t", "--time"), "20"),
    ],
)
def test_given(flags: tuple[str, ...], value: str | None) -> None:
    assert sbatch.given(OPTIONS, *flags) == value


@pytest.mark.parametrize(
    ("option", "seconds"),
    [
        ("--time=90", 5400),
        ("-t 1:30", 90),
        ("-t1:00:01", 3601),
        ("--time 1-2", 26 * 3600),
        ("--time=1-2:3", 26 * 3600 + 180),
        ("--time=1-02:03:04", 26 * 3600 + 184),
        ("--time=UNLIMITED", None),
        ("--hold", None),
    ],
)
def test_walltime(option: str, seconds: int | None) -> None:
    assert sbatch.walltime((option,)) == seconds


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ((), ("--exclude=a,b",)),
        (("-x c[1-3]", "--nice"), ("--exclude=c[1-3],a,b",)),
        (("--exclude=c",), ("--exclude=c,a,b",)),
        (("-w a",), ()),
        (("--nodelist=c",), ()),
    ],
)
def test_nodes_to_avoid(options: tuple[str, ...], added: tuple[str, ...]) -> None:
    assert sbatch.avoiding(options, ("a", "b")) == (*options, *added)
    assert sbatch.avoiding(options, ()) == options
