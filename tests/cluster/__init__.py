"""A small cluster on this machine, for tests: real sshd, real Grid Engine or Slurm, hosts made of Linux namespaces.

    outside 10.99.0.2 ---- 10.99.0.1 head 10.88.0.1 ---+--- node1 10.88.0.2
    sheepdog runs here     sshd, sge_qmaster, qsub     +--- node2 10.88.0.3
                                                            sge_execd, 4 slots each

With Cluster(scheduler="slurm") head has slurmctld, slurmdbd and a MariaDB, and the nodes have slurmd; users have sbatch
and no qsub. accounting=False leaves the last two of head's out. All else is the same.

Outside and the nodes reach each other by way of head. Every host knows every name.

On head and the nodes live two users: `sheep`, whose account `ssh head` from outside opens, and `other`, a
stranger. They share /home, and have /tmp, /run, /root and /opt of their own. /opt/python/bin/python3 is the
Python that runs the tests; /usr/bin/python3 is Debian's.

Every host has a copy of this machine's /etc, so that a package may be installed meanwhile.

Outside has the other files of this machine, so the tests' own virtual environment works there. Its user is root,
whose home is `Cluster.home`; your own ~/.ssh is neither read nor written.

All files are in one directory under /tmp. Hosts and directory go when the cluster is taken down, or when the
process that brought it up ends, however it ends. Two clusters do not see each other.

By hand, as root on Debian, from the root of the repository:

    python -m tests.cluster up                      until Ctrl-C or `down`; prints the directory
    python -m tests.cluster on outside ssh head     from another terminal
    python -m tests.cluster on sheep@head qstat -f
    python -m tests.cluster down
"""

from tests.cluster.cluster import Cluster
from tests.cluster.hosts import HostFailed, Program
from tests.cluster.packages import unavailable
from tests.waiting import until

__all__ = ["Cluster", "HostFailed", "Program", "unavailable", "until"]
