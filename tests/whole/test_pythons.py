"""A sample of the table that `make pythons` prints: this Python as the host, and others as workers."""

import sys
from pathlib import Path

import pytest

from tests.faults import fault
from tests.pythons import PYPY, WAYS, WORKERS, cells, python_of

pytestmark = pytest.mark.slow

VALUES = {"a lambda", "a closure"}  # of a module: no name of it finds them


@fault(
    49,
    "workers of another Python, PyPy too, for each kind of function",
    promise="what goes by name is right there; the rest is refused before a task runs",
)
def test_every_kind_is_right_or_refused(tmp_path: Path) -> None:
    others = [
        each for minor in WORKERS if minor != sys.version_info.minor and (each := python_of(minor)) and minor in (6, 13)
    ]
    workers = [sys.executable, *others[:1], *others[-1:], *filter(None, [PYPY])]
    if len(workers) < 2:
        pytest.skip("there is no other Python on this machine")
    found = [*cells([sys.executable], dict.fromkeys(workers), tmp_path)]
    assert len({cell.kind for cell in found}) >= 20
    for cell in found:
        same = cell.worker == sys.executable
        named = cell.kind == "a built-in" or (cell.way == WAYS[0] and cell.kind not in VALUES)
        assert cell.verdict == ("right" if same or named else "refused"), cell
        assert cell.verdict == "right" or "set the option `python`, not `shell`, to '3." in cell.why
