"""Measure Sheepdog beside the standard library's pools: print tables, and write every sample to a file.

All ways take turns in one run, since machines are noisy and differ: trust the ratios (the median of the rounds'
ratios) more than the figures. The executor is concurrent.futures.ProcessPoolExecutor, Pool is multiprocessing.Pool.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from here import Goal, Measure, first_result, imports, latency, memory, stream, throughput

CALLS = 1000  # of a warm executor

Samples = dict[str, list[float]]
"""Row -> one value a round."""


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3, help="how often everything is measured (default: 3)")
    parser.add_argument(
        "--tasks",
        type=positive,
        nargs="*",
        default=[10_000, 100_000],
        metavar="N",
        help="numbers of tasks to measure tasks/s with (default: 10000 100000)",
    )
    parser.add_argument("--million", action="store_true", help="measure memory with 1,000,000 tasks too (Linux; once)")
    parser.add_argument(
        "--stream", type=positive, metavar="N", help="measure memory and disk of imap with N tasks too (Linux; once)"
    )
    parser.add_argument(
        "--costs", action="store_true", help="measure processor time, large values and short tasks too (Linux)"
    )
    parser.add_argument("--cluster", action="store_true", help="measure on the test cluster too (root on Debian)")
    parser.add_argument("--only", action="store_true", help="measure only what the four before ask for")
    parser.add_argument("--name", default="latest", help="of the file of samples (default: latest)")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(__file__).resolve().parent / "results",
        metavar="DIRECTORY",
        help="where NAME.json is written (default: results, beside this script)",
    )
    options = parser.parse_args()
    if options.only and not (options.million or options.stream or options.costs or options.cluster):
        parser.error("--only needs --million, --stream, --costs or --cluster")
    report: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "measures": []}
    print("  ".join(f"{key}: {value}" for key, value in report["machine"].items()), flush=True)
    for measuring, rounds in chosen(options):
        with measuring as measure:
            samples = take(measure, rounds)
        print("\n" + table(measure, samples), flush=True)
        report["measures"].append(record(measure, samples))
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{options.name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nEvery sample is in {path}")


def positive(text: str) -> int:
    """A number of the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def chosen(options: argparse.Namespace) -> Iterator[tuple[AbstractContextManager[Measure], int]]:
    """Yield what is to be measured, and in how many rounds."""
    if not options.only:
        for n in options.tasks:
            yield throughput(n), options.rounds
        yield latency(CALLS), options.rounds
        yield nullcontext(first_result()), options.rounds
        yield nullcontext(imports()), options.rounds
    if options.million:
        yield nullcontext(memory(1_000_000)), 1
    if options.stream:
        yield nullcontext(stream(options.stream)), 1
    if options.costs:
        from costs import large, processor_time, short

        yield nullcontext(processor_time(max(options.tasks))), options.rounds
        yield large(60), options.rounds
        yield short(max(options.tasks) // 20), options.rounds
    if options.cluster:
        from on_cluster import cluster_calls

        yield cluster_calls([1, 100, 10_000]), options.rounds


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "sheepdog": importlib.metadata.version("sheepdog"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": usable,
        "load": round(os.getloadavg()[0], 2),
        "sqlite": sqlite3.sqlite_version,
        "fast": importlib.util.find_spec("httptools") is not None,
    }


def take(measure: Measure, rounds: int) -> Samples:
    """Let the steps take turns."""
    samples: Samples = {}
    for number in range(1, rounds + 1):
        for step in measure.steps:
            for row, value in step().items():
                print(f"  round {number}: {row}: {value:.4g} {measure.unit}", file=sys.stderr, flush=True)
                samples.setdefault(row, []).append(value)
    return samples


def compared(measure: Measure, samples: Samples, row: str, other: str) -> float:
    """The median of the rounds' ratios, or differences."""
    pairs = zip(samples[row], samples[other], strict=True)
    return statistics.median(mine - its if measure.differences else mine / its for mine, its in pairs)


def outcome(measure: Measure, samples: Samples, goal: Goal) -> float:
    """The value that the goal speaks of."""
    if goal.beyond:
        return compared(measure, samples, goal.row, goal.beyond)
    return statistics.median(samples[goal.row])


def table(measure: Measure, samples: Samples) -> str:
    """Return the figures as text."""
    sign = "-" if measure.differences else "/"
    head = [f"{measure.title}{f' [{measure.unit}]' * bool(measure.unit)}", "median", "min", "max"]
    rows = [head + [f"{sign} {other}" for other in measure.beside]]
    for row, values in samples.items():
        cells = [f"  {row}", *map(shown, (statistics.median(values), min(values), max(values)))]
        rows.append(cells + [f"{compared(measure, samples, row, other):+.2f}" for other in measure.beside])
    if not measure.differences:
        rows = [[cell.replace("+", "") for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
        for cells in rows
    ]
    for goal in measure.goals:
        value = outcome(measure, samples, goal)
        beyond = f" beyond {goal.beyond}" * bool(goal.beyond)
        verdict = "kept" if value <= goal.most else "MISSED"
        lines.append(f"  goal: {goal.row}: at most {goal.most:g}{beyond}: {shown(value)}, {verdict}")
    return "\n".join(lines)


def shown(value: float) -> str:
    """A figure of three or four digits, for people."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def record(measure: Measure, samples: Samples) -> dict[str, Any]:
    """Return the figures for the file."""
    rows = {
        row: {
            "median": statistics.median(values),
            "min": min(values),
            "max": max(values),
            "compared": {other: compared(measure, samples, row, other) for other in measure.beside},
            "samples": values,
        }
        for row, values in samples.items()
    }
    goals = [{**asdict(goal), "value": outcome(measure, samples, goal)} for goal in measure.goals]
    comparison = "difference" if measure.differences else "ratio"
    return {"title": measure.title, "unit": measure.unit, "comparison": comparison, "rows": rows, "goals": goals}


if __name__ == "__main__":
    main()
