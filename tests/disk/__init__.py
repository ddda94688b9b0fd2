"""Faults inside real server processes: set as an environment, they come with the server's Python.

    environment(journal=...)  ->  PYTHONPATH, FAULTS  ->  sitecustomize.py  ->  faulty_disk.py, or a death

The program that runs is the unchanged server. Only processes whose command has the word serve are touched.
"""

import json
import os
from pathlib import Path
from typing import Any


def environment(**faults: Any) -> dict[str, str]:
    """Return what to add to the environment of whoever starts a server; sitecustomize.py lists the faults."""
    path = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "FAULTS": json.dumps(faults)}
