"""Small projects, real files: written, used by a Python of their own as their author would, and sent to a bare one.

What a program hands to `send(f, *args)` is what a user's process does; `arrive` is what a worker does with it.
"""

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle

from sheepdog.client.bundle import unpack
from tests.local import ROOT

CLIENT = ROOT / "src/sheepdog/client"

SIM = """
from dataclasses import dataclass
DT = 1.0
@dataclass(slots=True)
class State:
    x: float
    def advance(self):
        return State(self.x + DT)
def step(s):
    return s.advance()
"""
"""A module of which a global is set, and whose results are of its own class."""

SEND = """
import os, pickle, pathlib, sys
def send(f, *args, ship=(), by_value=False, to=os.environ.get("TO", "")):
    from sheepdog.bundle import bundle, needs
    note = needs.Needs()
    call = needs.dumps((f, args), needs.everything() if by_value else needs.unshared(), note)
    made = BUNDLES.find(note, ship)
    second = made.second(note)
    place = pathlib.Path(to)
    (place / "bundle.tgz").write_bytes(made.pack())
    (place / "call").write_bytes(call)
    state = made.watch(note).look()
    (place / "state").write_bytes(pickle.dumps((dict(state.modules), second)))
    for fact in (*made.facts, *state.facts):
        print("fact:", fact)
    return made
from sheepdog.bundle.bundle import Bundles
BUNDLES = Bundles()
"""

ARRIVE = """
import pickle, sys, traceback
def main(to, libraries):
    sys.path.append(libraries)
    from _sheepdog_worker.bundle import Own
    from _sheepdog_worker.wire.loader import World
    from _sheepdog_worker.wire.values import load
    own = Own(to + "/there")
    own.start()
    state, second = pickle.load(open(to + "/state", "rb"))
    own.set(state)
    own.stand_by(second)
    try:
        own.hold()
        try: f, args = load(open(to + "/call", "rb").read(), World())
        finally: own.let_go()
        result = f(*args)
        print(repr(result))
        for name, reason in own.second.refused.items():
            print("by value:", name, reason)
        import cloudpickle
        cloudpickle.dump(result, open(to + "/result", "wb"))
    except BaseException:
        print(own.own_name(traceback.format_exc()), end="")
if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def write(place: Path, files: Mapping[str, str]) -> Path:
    """Write files, each with its folder."""
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return place


def python(*arguments: str, cwd: Path, path: tuple[str, ...] = (), **variables: str) -> str:
    """Run this Python as a user would, with these on PYTHONPATH besides ours; return what it says."""
    tools = cwd.parent / "tools"
    write(tools, {"sending.py": SEND})
    found = os.pathsep.join([*path, str(ROOT / "src"), str(tools)])
    environment = {**os.environ, "PYTHONPATH": found, **variables}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def arrive(to: Path) -> str:
    """Unpack what was sent, and call it in a Python that has the standard library and cloudpickle only."""
    unpack((to / "bundle.tgz").read_bytes(), str(to / "there"))
    (to / "arrive.py").write_text(f"import sys; sys.path.insert(0, {str(to)!r})\n{ARRIVE}")
    libraries = to / "libraries"
    libraries.mkdir(exist_ok=True)
    for name, folder in (("cloudpickle", Path(cloudpickle.__file__).parent), ("_sheepdog_worker", CLIENT)):
        if not (libraries / name).exists():
            (libraries / name).symlink_to(folder)
    command = [sys.executable, "-I", "-S", str(to / "arrive.py"), str(to), str(libraries)]
    done = subprocess.run(command, cwd=to, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rstrip("\n")


def over_there(project: Path, files: Mapping[str, str], program: str, *how: str, path: tuple[str, ...] = ()) -> str:
    """Return what a call gives over there, and before it the facts that its author reads.

    What is here is moved away before. how: the arguments of Python; without them it runs the program.
    """
    to = project.parent / "to"
    to.mkdir(exist_ok=True)
    write(project, {**files, **({"main.py": program} if program else {})})
    said = python(*(how or ("main.py",)), cwd=project, path=path, TO=str(to))
    project.rename(project.parent / "away")
    return said + arrive(to)


def ask(program: str, cwd: Path, path: tuple[str, ...] = ()) -> Any:
    """Run a program in a project; return what it has put into `answer`."""
    text = f"{textwrap.dedent(program)}\nprint('ANSWER', repr(answer))"
    said = python("-c", text, cwd=cwd, path=path)
    return eval(said.rpartition("ANSWER ")[2])
