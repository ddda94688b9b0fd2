"""The benchmark runs, and its file says what it should. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
RUN = Path(__file__).parent.parent / "bench" / "run.py"


def test_a_small_run_writes_every_sample(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(RUN),
        "--rounds",
        "1",
        "--tasks",
        "50",
        "--name",
        "small",
        "--results",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "50 tasks [tasks/s]" in done.stdout
    report = json.loads((tmp_path / "small.json").read_text())
    assert {"sheepdog", "python", "cores"} <= report["machine"].keys()
    tables = {measure["title"]: measure["rows"] for measure in report["measures"]}
    assert list(tables) == [
        "50 tasks",
        "A call of a warm executor",
        "Fresh process: import to first result",
        "Import, less a bare interpreter",
    ]
    row = tables["50 tasks"]["sheepdog"]
    assert row["min"] <= row["median"] <= row["max"]
    assert len(row["samples"]) == 1
    assert row["compared"].keys() == {"executor, chunks of 1", "Pool, its own chunks"}
    assert {"sheepdog, cold", "sheepdog, server running", "executor", "Pool"} <= tables[
        "Fresh process: import to first result"
    ].keys()


def test_only_needs_something_to_measure() -> None:
    done = subprocess.run([sys.executable, RUN, "--only"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--only needs --million, --stream, --costs or --cluster" in done.stderr


def test_costs_are_told_by_process(tmp_path: Path) -> None:
    options = ["--costs", "--only", "--rounds", "1", "--tasks", "200", "--results", str(tmp_path)]
    done = subprocess.run([sys.executable, RUN, *options], capture_output=True, text=True, timeout=150, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tables = {each["title"]: each for each in json.loads((tmp_path / "latest.json").read_text())["measures"]}
    assert [*tables["200 tasks: processor time of one"]["rows"]] == [
        *("client", "server", "worker", "worker's child", "all"),
    ]
    assert tables["1 MB there and back"]["goals"][0]["beyond"] == "ProcessPoolExecutor"
    assert tables["10 tasks of a millisecond"]["rows"]["as they slept"]["min"] > 0
