"""What every test may ask for."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import sheepdog
from sheepdog.schedulers.way_home import source
from sheepdog.storage import Storage
from tests.cluster import Cluster, unavailable
from tests.cluster.packages import may_install
from tests.local import parents_of, workers_of
from tests.seclusion import seclude
from tests.user import User
from tests.waiting import until

SECLUDED = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("shared machines", deadline=None)
    settings.load_profile("shared machines")
    # Who runs the tests in the background of a script has SIGINT ignored, and so would have all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="secluded-"))
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    directory.chmod(0o755)
    (directory / "empty").mkdir()
    config.stash[SECLUDED] = directory
    seclude(os.environ, directory)
    config.addinivalue_line("markers", "fault(id, what, promise): the fault that the test shows; see tests/faults.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    os.chdir(session.config.stash[SECLUDED] / "empty")  # where there is no sheepdog.toml


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let no test find a scheduler or a configuration of this machine, even if they have come meanwhile."""
    directory = item.config.stash[SECLUDED]
    seclude(os.environ, directory)
    os.chdir(directory / "empty")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the cluster, and what starts servers, so that `-m "not slow and not cluster"` leaves it out.

    Files that take minutes come first: where several processes share the files, none of them ends with one.
    """
    for item in items:
        if "on_cluster" in item.path.parts:
            item.add_marker("cluster")
        for fixture, marker in (("cluster_possible", "cluster"), ("servers", "slow")):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    longest = {item.path: "slow" for item in items if item.get_closest_marker("slow")}
    longest |= {item.path: "cluster" for item in items if item.get_closest_marker("cluster")}
    items.sort(key=lambda item: ["cluster", "slow", ""].index(longest.get(item.path, "")))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A store of the test's own."""
    with Storage(tmp_path / "db") as storage:
        yield storage


@pytest.fixture(scope="session")
def servers() -> None:
    """Whatever starts servers asks for this, and so is slow."""


@pytest.fixture
def place(servers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and a working directory of the test's own; whatever serves or works there is ended."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "home").mkdir(mode=0o755)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for lock in tmp_path.glob("*-server"):
        sheepdog.Server(dbfile=str(lock).removesuffix("-server")).stop()
    for pid in parents_of(tmp_path):  # of requests that the test did not let end
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not workers_of(tmp_path), "the workers have ended")


@pytest.fixture(scope="session")
def cluster_possible() -> None:
    """Skip what needs the cluster where there can be none; but in CI there must be one."""
    if reason := unavailable():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def cluster(cluster_possible: None) -> Iterator[Cluster]:
    """The test cluster, one for the whole run. Leave its hosts up, its cables in and its queue empty."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_cluster(cluster_possible: None) -> Iterator[Cluster]:
    """A test cluster with Slurm and its accounting; keep it as the other one."""
    with Cluster(scheduler="slurm") as cluster:
        yield cluster


@pytest.fixture
def slurm_user(slurm_cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    """Somebody at the outside host of the cluster with Slurm."""
    user = User(slurm_cluster, tmp_path)
    yield user
    user.leave()


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    """Somebody at the outside host, with a directory of their own there; what they leave running is taken away."""
    user = User(cluster, tmp_path)
    yield user
    user.leave()


@pytest.fixture(scope="session")
def cpython_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of CPython's package `test`: this Python's, Debian's, or Debian's without installing it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if version != "python3.11":
        pytest.skip("the names of the tests are those of Python 3.11")
    spec = importlib.util.find_spec("test")
    own = [Path(path) for path in (spec and spec.submodule_search_locations) or []]
    for directory in [*own, Path("/usr/lib") / version / "test"]:
        if (directory / "test_concurrent_futures.py").exists():
            return directory
    if not may_install():
        pytest.skip(f"CPython's tests are not there: install lib{version}-testsuite")
    place = tmp_path_factory.mktemp("testsuite")
    subprocess.run(["apt-get", "-qq", "update"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["apt-get", "-qq", "download", f"lib{version}-testsuite"], cwd=place, check=True)
    [package] = place.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(place)], check=True)
    return place / "usr" / "lib" / version / "test"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine, which the head node sees."""
    found = source("198.51.100.1")
    if not found:
        pytest.skip("this machine has no address but the loopback's")
    monkeypatch.setenv("SSH_CONNECTION", f"{found} 50000 198.51.100.1 22")
    return found
