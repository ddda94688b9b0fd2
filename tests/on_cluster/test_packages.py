"""Installed packages that the nodes have not got: looked for before any task runs, and brought along."""

import os
from collections.abc import Iterator

import pytest

from sheepdog.deployment import uv
from tests.bundle.projects import write
from tests.faults import fault
from tests.on_cluster.programs import run
from tests.user import User
from tests.wheels import settings, wheel

WOOL = {"wool/__init__.py": "def spin(x): return 2 * x\n", "wool-1.0.dist-info/RECORD": "wool/__init__.py,,\n"}
HERE = """
import sys
sys.path.insert(0, "here/site-packages")
import wool
def shear(x): return wool.spin(x)
"""


@pytest.fixture(params=["user", "slurm_user"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """Somebody who has a package installed that the second node alone has, too, if its path is set."""
    made: User = request.getfixturevalue(request.param)
    write(made.place / "here/site-packages", WOOL)
    for name, text in WOOL.items():
        made.sh("node2", f"mkdir -p $(dirname /tmp/farm/{name}) && printf '{text.strip()}\\n' >/tmp/farm/{name}")
    yield made
    made.sh("node2", "rm -rf /tmp/farm")


@fault("packages", "no node of a cluster has a package", promise="map says what is missing, before a task is run")
def test_a_package_is_missing_on_all_nodes(user: User) -> None:
    code = """
        C.update(workers=4)
        try: sheepdog.map(shear, [(i,) for i in range(100)], C)
        except sheepdog.NotRun as error: show([str(error), attempts()])
    """
    error, attempts = run(user, HERE + code.replace("\n        ", "\n"))
    assert "which lacks wool==1.0." in error
    assert "-m pip install wool==1.0" in error
    assert attempts == []


@fault("packages", "one node of two has not got it", promise="the tasks run on the other; none has failed")
def test_a_package_is_missing_on_one_node(user: User) -> None:
    code = """
        C.update(workers=4, setup=["export PYTHONPATH=/tmp/farm"])
        sheepdog.map_async(shear, [(i,) for i in range(40)], C)
        show([results(), errors(), attempts()])
    """
    results, errors, attempts = run(user, HERE + code.replace("\n        ", "\n"))
    assert (results, errors, attempts) == ([2 * i for i in range(40)], [], [])


@pytest.mark.skipif(not uv.program(), reason="there is no uv")
@fault("packages", "... and packages=True", promise="it is brought along, once")
def test_a_package_is_brought_along(user: User) -> None:
    wheel(user.place / "wheels", "wool", "1.0", {"wool/__init__.py": WOOL["wool/__init__.py"]})
    code = f"""
        os.environ["PATH"] += {os.pathsep + os.path.dirname(uv.program())!r}
        os.environ.update({settings(user.place / "wheels", user.place / "cache")!r})
        C.update(workers=4, packages=True)
        show([sheepdog.map(shear, [(i,) for i in range(40)], C) for _ in range(2)])
    """
    found = run(user, HERE + code.replace("\n        ", "\n"))
    assert found == [[2 * i for i in range(40)]] * 2
    assert (
        sum(line.startswith("sheepdog: ") and " go to .sheepdog/packages/" in line for line in user.said.split("\n"))
        == 1
    )
    assert len(user.sh("head", "ls .sheepdog/packages").split()) == 1
