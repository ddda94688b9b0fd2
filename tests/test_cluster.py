"""The test cluster itself: that what other tests build on is there, and that it leaves nothing behind."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import Cluster, HostFailed, packages, unavailable
from tests.waiting import until

ROOT = Path(__file__).parent.parent
CONNECT = "import socket; print(socket.create_connection(('outside', {port}), 5).recv(9).decode())"
LISTEN = """
import socket
server = socket.create_server(("", 0))
print(server.getsockname()[1], flush=True)
server.accept()[0].sendall(b"welcome")
"""


def submit(cluster: Cluster, script: str, *options: str) -> str:
    """Submit a job as sheep from outside; return its number."""
    done = cluster.on("outside", ["ssh", "head", "qsub", "-terse", *options], input=script)
    return done.stdout.strip()


def wait_for_job(cluster: Cluster, job: str) -> str:
    """Wait until the accounting has the job; return what it says.

    The master may hold a node that was killed lost for a while: up to 143 s have been seen.
    """
    qacct = ["qacct", "-j", job]
    until(lambda: cluster.on("head", qacct, check=False).returncode == 0, f"job {job} is in the accounting", 150)
    return cluster.on("head", qacct).stdout


def test_a_job_runs_on_a_node(cluster: Cluster) -> None:
    job = submit(cluster, "#!/bin/sh\nhostname\nid -un\n", "-j y -o job-said")
    assert re.search(r"^exit_status +0 ", wait_for_job(cluster, job), re.M)
    host, user = (cluster.home_of("sheep") / "job-said").read_text().split()
    assert host in ("node1", "node2")
    assert user == "sheep"


def test_a_node_connects_to_outside_by_name(cluster: Cluster) -> None:
    with cluster.popen("outside", [sys.executable, "-c", LISTEN], stdout=-1) as server:
        assert server.stdout
        port = server.stdout.readline().strip()
        said = cluster.on("node2", ["python3", "-c", CONNECT.format(port=port)], "sheep").stdout
    assert said == "welcome\n"


def test_a_cut_host_is_unreachable_until_mended(cluster: Cluster) -> None:
    probe = ["ssh", "-o", "ConnectTimeout=1", "head", "true"]
    cluster.cut("outside")
    try:
        assert cluster.on("outside", probe, check=False).returncode == 255
    finally:
        cluster.mend("outside")
    until(lambda: cluster.on("outside", probe, check=False).returncode == 0, "head is reached again")


def test_nodes_have_the_python_of_the_tests(cluster: Cluster) -> None:
    said = cluster.on("node1", ["/opt/python/bin/python3", "-c", "import ssl, sys; print(sys.version)"], "sheep")
    assert said.stdout.strip() == sys.version


def test_a_package_that_is_installed_meanwhile_takes_nothing_from_the_hosts(cluster: Cluster) -> None:
    """It puts a new linker cache in the place of the old one: so does this, with the same in it."""
    before = Path("/etc/ld.so.cache").stat().st_ino
    renewed = shutil.copy2("/etc/ld.so.cache", "/etc/ld.so.cache.same")
    os.rename(renewed, "/etc/ld.so.cache")
    assert Path("/etc/ld.so.cache").stat().st_ino != before
    for host in ("head", "node1", "node2"):
        assert "/opt/lib/" in cluster.on(host, ["ldconfig", "-p"]).stdout
        assert cluster.on(host, ["/opt/python/bin/python3", "-c", "print(1)"], "sheep").stdout == "1\n"


def test_a_stranger_cannot_read_a_private_directory(cluster: Cluster) -> None:
    cluster.on("head", ["sh", "-c", "mkdir -m 700 private; echo hidden >private/file; echo shown >file"], "sheep")
    assert cluster.on("node1", ["cat", "/home/sheep/file"], "other").stdout == "shown\n"
    with pytest.raises(HostFailed, match="Permission denied"):
        cluster.on("node1", ["cat", "/home/sheep/private/file"], "other")


def test_a_program_gets_signals_and_a_command_a_timeout(cluster: Cluster) -> None:
    with cluster.popen("node1", ["sleep", "3600"], "other") as program:
        program.terminate()
        assert program.wait(60) == -signal.SIGTERM
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.on("node1", ["sleep", "3600"], "other", timeout=0.1)
    assert "sleep\n" not in cluster.on("node1", ["sh", "-c", "cat /proc/[0-9]*/comm"], check=False).stdout


def test_two_clusters_side_by_side(cluster: Cluster) -> None:
    with Cluster("posix_compliant") as second:
        for each in (cluster, second):
            shown = each.on("head", ["qconf", "-sq", "all.q"]).stdout
            assert re.search(r"shell_start_mode +(\w+)", shown)[1] == each.shell_start_mode  # type: ignore[index]
        with second.popen("node1", ["sh", "-c", "echo on; exec sleep 3600"], "sheep", stdout=-1) as program:
            assert program.stdout
            program.stdout.readline()
            second.kill("node1")
            assert program.wait(60) == -signal.SIGKILL
        second.boot("node1")
        job = submit(second, "hostname", "-j y -o job-said -q all.q@node1")
        wait_for_job(second, job)
        assert (second.home_of("sheep") / "job-said").read_text() == "node1\n"
        networks = networks_of(second)
        assert processes_in(networks)
    assert not processes_in(networks)
    assert not second.directory.exists()
    assert str(second.directory) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.usefixtures("cluster_possible")
@pytest.mark.parametrize("accounting", [True, False])
def test_slurm_comes_and_goes(accounting: bool) -> None:
    with Cluster(scheduler="slurm", accounting=accounting) as cluster:
        wrap = ["sbatch", "--wait", "--parsable", "--output=job-said", "--nodelist=node2", "--wrap=hostname; id -un"]
        job = cluster.on("outside", ["ssh", "head", *map(shlex.quote, wrap)]).stdout.strip()
        assert (cluster.home_of("sheep") / "job-said").read_text() == "node2\nsheep\n"
        sacct = cluster.on("head", ["sacct", "-n", "-X", "-j", job, "-o", "State"], check=False)
        assert ("COMPLETED" in sacct.stdout) == accounting
        assert not cluster.on("head", ["sh", "-c", "command -v qsub"], "sheep", check=False).stdout
        networks = networks_of(cluster)
    assert not processes_in(networks)
    assert not cluster.directory.exists()
    assert str(cluster.directory) not in Path("/proc/self/mountinfo").read_text()
    assert not list(Path("/run/munge").glob("*"))


@pytest.mark.usefixtures("cluster_possible")
def test_nothing_is_left_when_the_tests_are_killed() -> None:
    with subprocess.Popen(
        ["python", "-m", "tests.cluster", "up"], executable=sys.executable, cwd=ROOT, stdout=-1
    ) as up:
        assert up.stdout
        directory = Path(up.stdout.readline().decode().strip())
        pids = [int(file.read_text()) for file in directory.glob("*/pid")]
        assert len(pids) == 4
        networks = {network(pid) for pid in pids}
        up.kill()
    until(lambda: not directory.exists() and not processes_in(networks), "hosts and directory are gone")


def test_the_reason_why_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unavailable() == "the test cluster needs root"


@pytest.mark.usefixtures("cluster_possible")
def test_packages_are_installed_only_with_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", ("iproute2", "sheep-shears"))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("CLUSTER_INSTALL", raising=False)
    reason = "the test cluster needs the packages sheep-shears (CLUSTER_INSTALL=1 installs them)"
    assert unavailable() == reason
    monkeypatch.setenv("CI", "true")
    assert unavailable() is None


def network(pid: int | str) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


def networks_of(cluster: Cluster) -> set[Path]:
    return {network(cluster.pid(host)) for host in ("outside", "head", "node1", "node2")}


def processes_in(networks: set[Path]) -> list[str]:
    """The processes of this machine which are in one of these network namespaces."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if network(process.name) in networks:
                found.append(process.name)
    return found
