"""Say whether this machine can hold the cluster, and install the packages it needs."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PACKAGES = (
    "gridengine-client",
    "gridengine-drmaa1.0",
    "gridengine-exec",
    "gridengine-master",
    "iproute2",
    "mariadb-server-core",
    "munge",
    "openssh-client",
    "openssh-server",
    "slurm-client",
    "slurmctld",
    "slurmd",
    "slurmdbd",
)
NO_DAEMONS = Path("/usr/sbin/policy-rc.d")
LOCK = Path("/tmp/sheepdog-tests-install.lock")


def unavailable() -> str | None:
    """Why the cluster cannot run here, in one line; None if it can."""
    if os.geteuid() != 0:
        return "the test cluster needs root"
    if not all(map(shutil.which, ("dpkg-query", "unshare", "nsenter", "setpriv"))):
        return "the test cluster needs Debian"
    trial = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    refused = subprocess.run(trial, capture_output=True, text=True)
    if refused.returncode:
        return f"the test cluster needs namespaces: {refused.stderr.strip()}"
    if absent() and not may_install():
        return f"the test cluster needs the packages {' '.join(absent())} (CLUSTER_INSTALL=1 installs them)"
    return None


def install(wanted: Sequence[str] = PACKAGES) -> None:
    """Install what is absent, and start none of it: the daemons are for the cluster's hosts, not for this machine.

    The processes of a test run take turns: who comes second finds all there.
    """
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if packages := absent(wanted):
            apt_install(packages)


def apt_install(packages: Sequence[str]) -> None:
    # Maintainer scripts ask this program before they start a daemon; 101 means: do not.
    ours = not NO_DAEMONS.exists()
    if ours:
        NO_DAEMONS.write_text("#!/bin/sh\nexit 101\n")
        NO_DAEMONS.chmod(0o755)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    try:
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run([*apt, *words], env=quiet, check=True, stdout=subprocess.DEVNULL)
    finally:
        if ours:
            NO_DAEMONS.unlink()


def absent(wanted: Sequence[str] = ()) -> list[str]:
    wanted = wanted or PACKAGES
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", *wanted]
    listing = subprocess.run(query, capture_output=True, text=True).stdout
    return [package for package in wanted if f"{package} installed" not in listing.splitlines()]


def may_install() -> bool:
    return os.environ.get("CI") == "true" or os.environ.get("CLUSTER_INSTALL") == "1"
