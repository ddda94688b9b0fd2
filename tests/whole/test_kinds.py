"""All kinds of objects that cloudpickle carries travel as far here: to a worker, and home."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundle.projects import write
from tests.faults import fault
from tests.whole.kinds import OWN, PROGRAM

pytestmark = pytest.mark.slow

REFUSED = {
    "a generator": "cannot pickle 'generator' object",
    "a coroutine": "cannot pickle 'coroutine' object",
    "a lock": "cannot pickle '_thread.lock' object",
    "a lock in a closure": "-> lock, a _thread.lock, in main.py)",
    "a lock of processes": "Lock objects should only be shared between processes through inheritance",
    "a condition": "-> ._lock, a _thread.RLock)",
    "what threads have": "cannot pickle '_thread._local' object",
    "a weak reference": "cannot pickle 'weakref.ReferenceType' object",
    "a file to be written": "cannot be serialised: ",
    "a closed file": "Cannot pickle closed files",
    "a file of bytes": "cannot pickle '_io.BufferedReader' object",
    "standard input": "Cannot pickle standard input",
    "a socket": "cannot pickle 'socket' object",
    "a frame": "cannot pickle 'frame' object",
    "what raises an error": "it will not",
    "a class method as it lies in a built-in type": "cannot pickle 'classmethod_descriptor' object",
    "what never answers": "excessively deep recursion",
}


@fault(
    26,
    "functions, classes, objects and modules of some ninety kinds",
    promise="each is the same there, and in what comes home; what cannot travel is named",
)
def test_every_kind_is_the_same_there_and_back_or_refused_by_name(place: Path) -> None:
    write(place, OWN)
    (place / "main.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "main.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    kinds, words = json.loads(done.stdout)
    assert {name: said for name, said in kinds.items() if said != "same"} == {}
    assert len(kinds) > 80
    assert {name: REFUSED[name] in said for name, said in words.items()} == dict.fromkeys(REFUSED, True), words
    assert all("item 0 of args, (" in said for said in words.values())
