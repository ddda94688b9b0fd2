"""Memory that nothing uses any more."""

import subprocess
import sys

PROGRAM = """
from pathlib import Path
from sheepdog.server.http.memory import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

class Holder:
    def __init__(self):
        self.me, self.memory = self, bytearray(32 << 10)

before = resident()
holders = [Holder() for _ in range(2000)]
keep = holders[::100]
took = resident() - before
del holders
give_back()
print(took, resident() - before)
"""


def test_what_only_holds_itself_goes_back_to_the_system() -> None:
    """Also around what is still in use."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    took, stays = map(int, done.stdout.split())
    assert took > 60 << 20
    assert stays < took / 4
