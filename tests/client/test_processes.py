"""What a process asks the kernel for itself and its children; in processes of their own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.local import ROOT
from tests.waiting import until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
PREFACE = f"import os, sys, time; sys.path.insert(0, {str(ROOT / 'src')!r}); from sheepdog.client.processes import *\n"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", PREFACE + code], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_process_has_children_while_they_live() -> None:
    code = """
print(has_processes())
pid = os.fork()
if pid == 0:
    time.sleep(60)
print(has_processes())
os.kill(pid, 9)
while has_processes(): pass
print(has_processes())
"""
    assert run(code).split() == ["False", "True", "False"]


def test_orphans_are_adopted_and_ended() -> None:
    """A grandchild whose parent has ended, in a session of its own."""
    code = """
adopt_orphans()
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os.write(write, b"%d" % os.getpid())
        time.sleep(60)
    os._exit(0)
pid = int(os.read(read, 20))
while has_processes() and os.getpid() != int(open("/proc/%d/stat" % pid).read().split()[3]): pass
end_orphans()
print(os.path.exists("/proc/%d" % pid), has_processes())
"""
    assert run(code) == "False False"


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    code = f"""
parent = os.getpid()
if os.fork() == 0:
    os.close(1); os.close(2)
    die_with_parent(parent)
    with open({str(tmp_path / "part")!r}, "w") as file: file.write(str(os.getpid()))
    os.rename({str(tmp_path / "part")!r}, {str(tmp_path / "child")!r})
    time.sleep(60)
while not os.path.exists({str(tmp_path / "child")!r}): time.sleep(0.01)
os._exit(0)
"""
    begin = time.monotonic()
    run(code)
    child = int((tmp_path / "child").read_text())
    until(lambda: not os.path.exists(f"/proc/{child}") or " Z " in Path(f"/proc/{child}/stat").read_text(), "it ends")
    assert time.monotonic() - begin < 50
