"""Which fault each test shows, and the table of them, faults.rst.

    @fault(5, "a worker is killed with -9", promise="its tasks run elsewhere; each has one outcome")
    def test_kill_a_worker(place: Path) -> None: ...

Above a test, a class of tests or in `pytest.param(..., marks=fault(...))`. Several tests may show one fault, and one
test several. `python -m tests.faults` writes the table, `python -m tests.faults --missing` lists what no test shows,
and `pytest -m "fault(id=5)"` runs the tests of one fault.
"""

import argparse
import contextlib
import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("faults.rst")
NUMBERS = range(1, 55)
NAMES = (
    "qdel one",
    "qdel all",
    "Eqw",
    "hold",
    "node down",
    "exit 99",
    "exit 100",
    "-r y",
    "max_aj_tasks",
    "max_aj_instances",
    "max_u_jobs",
    "qmaster down",
    "late accounting",
    "polite",
    "sys.exit",
    "abort",
    "memory",
    "timeout",
    "fork",
    "stdout closed",
    "stdout flooded",
    "binary output",
    "chdir",
    "signal handlers",
    "threads",
    "processes left",
    "GIL",
    "notify",
    "no notify",
    "s_rt",
    "preemption",
    "alike",
    "cancel",
    "retry",
    "clock jumps",
    "port taken",
    "database locked",
    "database moved",
    "disk full",
    "idle connections",
    "SIGTERM",
    "no workers",
    "power loss",
    "injection",
    "Ctrl-C",
    "other people",
    "second call",
    "own modules",
    "Pythons",
    "packages",
    "two clients",
    "silence",
    "wrappers",
    "way home",
    "last words",
    "client killed",
    "fork and spawn",
    "notebooks",
    "chaos",
    "calls that wait for others",
    "database grows",
    "files left",
    "too large",
    "slow head node",
    "damaged request",
    "another address",
    "bad node",
)

# What cannot be shown here: the fault, and why.
NOT_SHOWN: dict[int | str, tuple[str, str]] = {}


def fault(id: int | str | tuple[int | str, ...], what: str, *, promise: str) -> pytest.MarkDecorator:
    """Say which fault a test shows: its number or name (or several), in words, and what must come of it."""
    ids = id if isinstance(id, tuple) else (id,)
    unknown = [one for one in ids if one not in NUMBERS and one not in NAMES]
    if unknown or not what or not promise:
        raise ValueError(f"fault({id!r}, {what!r}, promise={promise!r}): a fault is one of 1 to 54 or of {NAMES}")
    return pytest.mark.fault(id=id, what=what, promise=promise)


Shown = dict[tuple[int | str, str, str], list[str]]
"""The tests of each fault: (id, what, promise) -> tests, in the order of the table."""


class Collector:
    """A plugin that keeps what pytest has collected."""

    def __init__(self) -> None:
        self.shown: Shown = defaultdict(list)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            test = item.nodeid.partition("[")[0]
            for mark in item.iter_markers("fault"):
                id, what, promise = (mark.kwargs[key] for key in ("id", "what", "promise"))
                for one in id if isinstance(id, tuple) else (id,):
                    tests = self.shown[one, what, promise]
                    if test not in tests:
                        tests.append(test)


def collect() -> Shown:
    """Have pytest collect all tests, and return which faults they show."""
    collector = Collector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        options = ["--collect-only", "-q", "--assert=plain"]  # as no test is run, rewriting would be for nothing
        status = pytest.main([*options, str(Path(__file__).parent)], plugins=[collector])
    if status:
        raise RuntimeError(said.getvalue())
    order = [*NUMBERS, *NAMES]
    return dict(sorted(collector.shown.items(), key=lambda entry: order.index(entry[0][0])))


def dumps(shown: Shown) -> str:
    return json.dumps([[*fault, tests] for fault, tests in shown.items()])


def loads(text: str) -> Shown:
    return {(id, what, promise): tests for id, what, promise, tests in json.loads(text)}


def missing(shown: Shown) -> list[int | str]:
    """Return the faults that no test shows and that are not said to be impossible to show."""
    found = {id for id, _, _ in shown} | NOT_SHOWN.keys()
    return [id for id in (*NUMBERS, *NAMES) if id not in found]


def table(shown: Shown) -> str:
    """Return the table of faults, as the tests say it."""
    parts = [rows(shown), rows_not_shown()] if NOT_SHOWN else [rows(shown)]
    return "\n".join("\n".join([*part, ""]) for part in parts)


def rows(shown: Shown) -> Iterator[str]:
    yield ".. Made from the tests by `python -m tests.faults`; change them, not this."
    yield ""
    yield from head("No.", "Fault", "What must come of it", "Shown by", widths="8 27 35 30")
    merged: dict[tuple[str, str, tuple[str, ...]], list[int | str]] = defaultdict(list)
    for (id, what, promise), tests in shown.items():
        merged[what, promise, tuple(tests)].append(id)
    for (what, promise, its), ids in merged.items():
        names = [f"``{test.removeprefix('tests/')}``" for test in its]
        yield from row(", ".join(map(str, ids)), what, promise, ", ".join(names))


def rows_not_shown() -> Iterator[str]:
    yield "Not shown by a test:"
    yield ""
    yield from head("No.", "Fault", "Why not", widths="8 40 52")
    for id, (what, reason) in NOT_SHOWN.items():
        yield from row(str(id), what, reason)


def head(*cells: str, widths: str) -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {widths}"
    yield ""
    yield from row(*cells)


def row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {' ' if number else '*'} - {cell}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--missing", action="store_true", help="list the faults that no test shows")
    parser.add_argument("--json", action="store_true", help="print what the tests say, and write nothing")
    words = parser.parse_args()
    shown = collect()
    if words.missing:
        print(*missing(shown), sep="\n")
    elif words.json:
        sys.stdout.write(dumps(shown))
    else:
        TABLE.write_text(table(shown))


if __name__ == "__main__":
    main()
