"""Bad nodes, on real schedulers: one of two lacks what the tasks or the workers need."""

from collections.abc import Iterator

import pytest

from tests.faults import fault
from tests.on_cluster.programs import run
from tests.user import User

NEED = """
def shear(i):
    import sys, time
    sys.path.insert(0, "/tmp/farm")
    import wool
    time.sleep(0.05)
    return i
def notes(): return [event.text for event in Storage(DB).events(1) if event.what == "host set aside"]
"""


@pytest.fixture(params=["user", "slurm_user"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """Somebody on a cluster whose second node alone has a module, and a Python at a place of its own."""
    made: User = request.getfixturevalue(request.param)
    made.sh(
        "node2", "mkdir -p /tmp/farm && touch /tmp/farm/wool.py && ln -sf /opt/python/bin/python3 /tmp/farm/python3"
    )
    yield made
    made.sh("node2", "rm -rf /tmp/farm")


@fault(
    "bad node", "a module is missing on one of two nodes", promise="about five tasks fail; it is set aside, and said"
)
def test_a_module_is_missing_on_one_node(user: User) -> None:
    code = """
        C.update(workers=8)
        sheepdog.map_async(shear, [(i,) for i in range(200)], C)
        failed = results().count(None)
        show([failed, notes(), errors(), sheepdog.retry(1, DB, config={"retries": 3, "retry_delay": 0.5}), results()])
    """
    failed, [note], errors, again, results = run(user, NEED + code.replace("\n        ", "\n"))
    assert 1 <= failed == len(errors) == again <= 10
    assert "node1 failed alike, while others do well elsewhere: ModuleNotFoundError" in note
    assert results == [*range(200)]


@fault("bad node", "... and tasks have retries", promise="each has its result from the other node")
def test_retries_go_to_the_other_node(user: User) -> None:
    code = """
        C.update(workers=8, retries=3, retry_delay=0.5)
        sheepdog.map_async(shear, [(i,) for i in range(200)], C)
        show([results(), errors()])
    """
    assert run(user, NEED + code.replace("\n        ", "\n")) == [[*range(200)], []]


@fault(
    "bad node",
    "Python is missing on one node, and the other one is full",
    promise="workers are submitted elsewhere, wait, and run",
)
def test_python_is_missing_on_one_node(user: User) -> None:
    fill = {
        "gridengine": "qsub -terse -l h=node2 -t 1-4 -b y -o /dev/null -j y sleep 1000",
        "slurm": "sbatch --parsable -w node2 --exclusive --mem=0 -o /dev/null --wrap='sleep 1000'",
    }[user.cluster.scheduler]
    delete = {"gridengine": "qdel", "slurm": "scancel"}[user.cluster.scheduler]
    code = f"""
        other = head({fill!r}).strip().split(".")[0]
        until(lambda: head("qstat" if {delete!r} == "qdel" else "squeue").count("node2") > 0)
        C.update(workers=4, shell="/tmp/farm/python3")
        sheepdog.map_async(f, [(i, i) for i in range(4)], C)
        until(lambda: arrays() == 2)
        head({delete!r}, other)
        show([results(), errors(), arrays()])
    """
    assert run(user, code) == [[0, 2, 4, 6], [], 2]


@fault("bad node", "Python is missing on all nodes", promise="not run, with the reason, soon")
def test_python_is_missing_everywhere(user: User) -> None:
    code = """
        C.update(workers=4, shell="/tmp/nowhere/python3")
        try: sheepdog.map(f, [(i, i) for i in range(4)], C)
        except sheepdog.NotRun as error: show([str(error), arrays()])
    """
    error, arrays = run(user, code)
    assert "Is /tmp/nowhere/python3 a Python there" in error
    assert arrays <= 3
