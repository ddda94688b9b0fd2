"""A Python brought along to a cluster that has none, on a real Grid Engine."""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.faults import fault
from tests.user import User

OWN = f"C = {{'host': 'head', 'poll_interval': 1, 'python': {sys.base_prefix!r}}}\n"
WHICH = """
def which(i):
    import os, sys
    return [i, sys.version.split()[0], os.path.relpath(sys.executable, os.path.expanduser("~"))]
show(sheepdog.map(which, [(i,) for i in range(20)], C))
"""

REFUSED = """
try: sheepdog.map(abs, [(1,)], C)
except sheepdog.SheepdogError as error: show([type(error).__name__, str(error)])
"""


@pytest.fixture(scope="module")
def bare_cluster(cluster_possible: None) -> Iterator[Cluster]:
    """A site without any Python."""
    with Cluster(bare=True) as cluster:
        yield cluster


@pytest.fixture
def user(bare_cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    user = User(bare_cluster, tmp_path)
    yield user
    user.leave()


def said(user: User) -> str:
    """What the user is told of the workers' Python."""
    lines = [line for line in user.said.splitlines() if line.startswith("sheepdog: workers run on ")]
    assert len(lines) == 1, user.said
    return lines[0]


@fault(
    "Pythons",
    "there is no Python on the cluster, on no host of it",
    promise="one is brought along, once; what it costs, where it is and how to remove it is said",
)
def test_a_cluster_without_python(user: User) -> None:
    none = user.run("print(sheepdog.pythons(C)); show([each.path for each in sheepdog.pythons(C).found])")
    assert none == []
    version = ".".join(map(str, sys.version_info[:3]))
    results = user.run(OWN + WHICH)
    [name] = user.sh("head", "ls .sheepdog/pythons").split()
    assert results == [[i, version, f".sheepdog/pythons/{name}/bin/python3"] for i in range(20)]
    first = said(user)
    assert f"CPython {version}, brought along to head:.sheepdog/pythons/{name} (" in first
    assert re.search(r"\(\d+\.\d MB sent in \d+\.\d s; to remove it: ssh head 'rm -rf \.sheepdog/pythons/", first)
    assert user.run(OWN + WHICH) == results
    assert re.search(r"\(0\.0 MB sent in \d+\.\d s, as it is there already; to remove it: ", said(user))
    assert user.sh("head", "ls .sheepdog/pythons").split() == [name]
    print(first, said(user), sep="\n")


def test_programs_of_the_head_node_run_on_it(user: User) -> None:
    """DRMAA is asked by a program on the head node."""
    profile = user.cluster.home_of("sheep") / ".bashrc"
    profile.write_text("export SGE_ROOT=/var/lib/gridengine\n")
    profile.chmod(0o644)
    try:
        assert user.run(f"{OWN}C['scheduler'] = 'drmaa'\nshow(sheepdog.map(abs, [(-1,), (2,)], C))") == [1, 2]
    finally:
        profile.unlink()


@fault(
    "Pythons",
    "there is none that can load the function, and none can be brought",
    promise="that is said at once, with what there is and what to do; nothing is submitted",
)
def test_no_python_and_none_to_bring(user: User) -> None:
    code = """
        del C["shell"]
        os.environ["PATH"] = "/usr/bin:/bin"
        from sheepdog.deployment import uv
        uv.program = lambda: ""
    """
    kind, words = user.run(textwrap.dedent(code) + REFUSED)
    assert kind == "ConfigError"
    assert words.startswith("there is no Python that can load the function on head, but no Python. cpython-3.")
    assert "pip install uv" in words
    assert not user.queue()


@fault(
    "Pythons",
    "the disk of the cluster is full in the midst of the Python that is brought",
    promise="that is said; nothing half of it is left, and nothing is submitted",
)
def test_no_room_for_it(user: User) -> None:
    cluster = user.cluster
    home = "/home/sheep/.sheepdog"
    cluster.on("head", ["sh", "-c", f"mkdir -p {home} && mount -t tmpfs -o size=20m,mode=700,uid=7001 none {home}"])
    try:
        kind, words = user.run(OWN + REFUSED)
        assert kind == "SchedulerError"
        assert words.startswith("the Python cannot be put into .sheepdog/pythons on head: ")
        assert "No space left on device" in words
        assert user.sh("head", "find .sheepdog -type f") == ""
        assert user.sh("head", "ls .sheepdog/pythons") == ""
    finally:
        cluster.on("head", ["umount", home])
