"""What runs the scripts that are written for the cluster, with a program in the place of the worker."""

import os
import subprocess
import sys
from pathlib import Path

from sheepdog.schedulers.job_file import Job

PROGRAM = """
import json, os, sys, time
with open(os.path.join(sys.argv[1], "ran." + sys.argv[2]), "w") as file:
    told = os.environ.get("TOLD")
    json.dump({"directory": sys.argv[1], "cwd": os.getcwd(), "told": told, "flags": sys.flags.isolated}, file)
print("said")
"""


def run(script: bytes | str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    directory.mkdir(exist_ok=True)
    text = script if isinstance(script, str) else script.decode()
    environment = {**os.environ, **environment}
    return subprocess.run(["sh", "-c", text], cwd=directory, env=environment, capture_output=True, text=True)


def job(python: str = sys.executable, directory: str = ".sheepdog/herd", setup: tuple[str, ...] = ()) -> Job:
    return Job(12, "herd", directory, python, 3, setup)
