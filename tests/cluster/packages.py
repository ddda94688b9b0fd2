"""Say whether this machine can hold the cluster, and install the packages it needs."""

import os
import shutil
import subprocess
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


def install() -> None:
    """Install what is absent, and start none of it: the daemons are for the cluster's hosts, not for this machine."""
    packages = absent()
    if not packages:
        return
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


def absent() -> list[str]:
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", *PACKAGES]
    listing = subprocess.run(query, capture_output=True, text=True).stdout
    return [package for package in PACKAGES if f"{package} installed" not in listing.splitlines()]


def may_install() -> bool:
    return os.environ.get("CI") == "true" or os.environ.get("CLUSTER_INSTALL") == "1"
