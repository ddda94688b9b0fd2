"""A bare Python elsewhere, to which functions and values travel in each of the forms that there are."""

import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from sheepdog import client
from sheepdog.values.serialisation import MAKERS, deserialise, serialise_arguments

# What the child of a worker does, without its pipes: no site-packages, only cloudpickle.
WORKER = """
import json, pickle, sys, types
sys.path.insert(0, sys.argv[1])
from _sheepdog_worker.child.target import Target
sys.path[0] = sys.argv[2]
sys.modules["__main__"] = types.ModuleType("__main__")
form, function, namespace, *calls = pickle.load(sys.stdin.buffer)
target = Target(function, namespace, lambda: None, lambda: None, form)
sys.stdout.buffer.write(pickle.dumps([target(call)[:2] for call in calls]))
"""


SEND = """
import json as _json, os as _os, pickle as _pickle, subprocess as _subprocess
from sheepdog.serialisation import deserialise, serialise_arguments
from {module} import {name} as _make
_blobs = _pickle.dumps([{form!r}, *_make(f, globals().get("ns")), *serialise_arguments(args)])
_done = _subprocess.run(_json.loads(_os.environ["WORKER"]), input=_blobs, stdout=-1, cwd="/", check=True)
_results = [deserialise(v) if kind == 0 else v.partition(b"\\0")[0].decode() for kind, v in _pickle.loads(_done.stdout)]
print(_json.dumps(_results if "check" not in globals() else check(_results)))
"""


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
        return self.work(pickle.dumps([self.form, *MAKERS[self.form](f, ns), *serialise_arguments(args)]))

    def script(self, source: str, **modules: str) -> list[Any]:
        """Run a script that defines f, args and perhaps ns beside its modules; run f far away; return what came back.

        The results are loaded in the script's own process, where `check(results)`, if it is there, looks at them.
        """
        for name, text in modules.items():
            (self.directory / f"{name}.py").write_text(textwrap.dedent(text))
        file, maker = self.directory / "script.py", MAKERS[self.form]
        send = SEND.format(module=maker.__module__, name=maker.__name__, form=self.form)
        file.write_text(textwrap.dedent(source) + send)
        command = [sys.executable, "-I", "-S", "-c", WORKER, self.worker, self.cloudpickle]
        done = subprocess.run([sys.executable, file], env={"WORKER": json.dumps(command)}, capture_output=True, cwd="/")
        assert done.returncode == 0, done.stderr.decode()
        return list(json.loads(done.stdout))
