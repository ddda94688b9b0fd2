"""A bare Python elsewhere, to which functions and values travel in each of the forms that there are."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from sheepdog import client
from sheepdog.bundle.outgoing import Outgoing
from sheepdog.client.bundle import bundle_of, folder_of, unpack
from sheepdog.client.wire.calls import names_in
from sheepdog.values.serialisation import deserialise, serialise_arguments, serialise_function
from tests.local import ROOT

# What the child of a worker does, without its pipes: no site-packages, only cloudpickle.
WORKER = """
import json, pickle, sys, types
sys.path.insert(0, sys.argv[1])
from _sheepdog_worker.child.target import Target
sys.path[0] = sys.argv[2]
sys.modules["__main__"] = types.ModuleType("__main__")
form, function, namespace, directory, named, *calls = pickle.load(sys.stdin.buffer)
target = Target(function, namespace, lambda: None, lambda: None, form, directory)
target.named.update(named)
sys.stdout.buffer.write(pickle.dumps([target(call)[:2] for call in calls]))
"""


SEND = """
import json as _json, os as _os, pickle as _pickle, subprocess as _subprocess, sys as _sys
_sys.path.append({root!r})
from sheepdog.serialisation import deserialise
from tests.values.far import pack as _pack
_blobs = _pack({form!r}, f, args, globals().get("ns"), {directory!r})
_done = _subprocess.run(_json.loads(_os.environ["WORKER"]), input=_blobs, stdout=-1, cwd="/", check=True)
_results = [deserialise(v) if kind == 0 else v.partition(b"\\0")[0].decode() for kind, v in _pickle.loads(_done.stdout)]
print(_json.dumps(_results if "check" not in globals() else check(_results)))
"""


def pack(form: str, f: Any, args: list[Any], ns: dict[str, Any] | None, directory: str) -> bytes:
    """Return calls as the Python over there gets them, and put the files that they need below a directory."""
    outgoing = Outgoing()
    function, namespace = serialise_function(f, ns, outgoing.pickler)
    calls = list(serialise_arguments(args, outgoing.dump))
    needed = outgoing.look()
    named = {bytes.fromhex(path[-64:]): make() for path, make in needed.files.items()}
    for manifest in filter(None, map(named.get, names_in(needed.before))):
        bundle = bundle_of(manifest)
        unpack(named.pop(bundle), folder_of(f"{directory}/job", bundle), bundle.hex())
    return pickle.dumps([form, needed.before + function, namespace, f"{directory}/job", named, *calls])


class Far:
    """A bare Python elsewhere: it has the worker and cloudpickle, and nothing of this one's path or modules."""

    def __init__(self, archives: Path, directory: Path, form: str) -> None:
        self.form = form
        self.worker, self.cloudpickle = str(archives / "worker"), str(archives / "cloudpickle")
        self.directory = directory

    def work(self, blobs: bytes) -> list[Any]:
        """Run a pickled list of form, function, namespace and calls; return the results, and texts of errors."""
        command = [sys.executable, "-I", "-S", "-c", WORKER, self.worker, self.cloudpickle]
        done = subprocess.run(command, input=blobs, capture_output=True, cwd="/")
        assert done.returncode == 0, done.stderr.decode()
        outcomes = pickle.loads(done.stdout)
        return [deserialise(v) if kind == client.RESULT else v.partition(b"\0")[0].decode() for kind, v in outcomes]

    def map(self, f: Any, args: list[Any], ns: dict[str, Any] | None = None) -> list[Any]:
        return self.work(pack(self.form, f, args, ns, str(self.directory)))

    def script(self, source: str, **modules: str) -> list[Any]:
        """Run a script that defines f, args and perhaps ns beside its modules; run f far away; return what came back.

        The results are loaded in the script's own process, where `check(results)`, if it is there, looks at them.
        """
        for name, text in modules.items():
            (self.directory / f"{name}.py").write_text(textwrap.dedent(text))
        file = self.directory / "script.py"
        send = SEND.format(form=self.form, directory=str(self.directory), root=str(ROOT))
        file.write_text(textwrap.dedent(source) + send)
        command = [sys.executable, "-I", "-S", "-c", WORKER, self.worker, self.cloudpickle]
        environment = {"WORKER": json.dumps(command), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        done = subprocess.run([sys.executable, file], env=environment, capture_output=True, cwd="/")
        assert done.returncode == 0, done.stderr.decode()
        return list(json.loads(done.stdout))
