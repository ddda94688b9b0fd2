"""Start Slurm on the hosts, from nothing, quick to act; its accounting needs slurmdbd and a MariaDB on head, too."""

import os
import pwd
import secrets
from pathlib import Path

from tests.cluster.files import file, folder
from tests.cluster.hosts import Host
from tests.waiting import until

COMMANDS = "sbatch squeue scancel sacct scontrol"  # of the other systems there is none
ADMIN = "slurm"
STATE = "/var/lib/slurm"
TABLES = Path("/usr/share/mysql")

# SlurmctldParameters and the intervals make it quick. Nodes that are lost are given up after SlurmdTimeout.
CONF = """\
ClusterName=test
SlurmctldHost=head
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/d
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=20
MinJobAge=10
MaxArraySize=1001
SlurmdParameters=config_overrides
DefMemPerCPU=500
GresTypes=gpu
NodeName={nodes} CPUs={slots} RealMemory=8000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=2
PartitionName=short Nodes=ALL MaxTime=1 PriorityTier=2
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=30
"""
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=head
AccountingStorageEnforce=associations,limits,qos
"""
DBD = """\
AuthType=auth/munge
DbdHost=head
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageUser=slurm
LogFile={state}/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
"""
DATABASE = (
    *("mariadbd", "--no-defaults", "--skip-grant-tables", "--skip-networking", "--innodb-buffer-pool-size=64M"),
    *(f"--datadir={STATE}/mysql", "--socket=/run/mysqld/mysqld.sock", "--user=slurm"),
)


def make_configuration(directory: Path, nodes: list[str], slots: int, accounting: bool) -> None:
    """Write what all hosts share: /etc/slurm, with munge's key."""
    folder(directory)
    conf = CONF.format(nodes=",".join(nodes), slots=slots, state=STATE) + (ACCOUNTING if accounting else "")
    file(directory / "slurm.conf", conf)
    file(directory / "gres.conf", "Name=gpu File=/dev/null\n")
    for name, owner, text in (
        ("slurmdbd.conf", ADMIN, DBD.format(state=STATE)),
        ("munge.key", "munge", secrets.token_hex(512)),
    ):
        file(directory / name, text, 0o600)
        user = pwd.getpwnam(owner)
        os.chown(directory / name, user.pw_uid, user.pw_gid)


def start_master(head: Host, users: list[str], accounting: bool) -> None:
    """Start slurmctld; with accounting, with an account for these users."""
    start_munge(head)
    head.run(["install", "-d", "-o", ADMIN, f"{STATE}/ctld"])
    if accounting:
        head.run(["install", "-d", "-o", ADMIN, f"{STATE}/mysql", "/run/mysqld"])
        tables = "".join((TABLES / f"mysql_{name}.sql").read_text() for name in ("system_tables", "system_tables_data"))
        head.run([*DATABASE, "--bootstrap"], input=f"create database mysql;\nuse mysql;\n{tables}")
        head.run(["sh", "-c", 'setsid --fork "$@" >/dev/null 2>&1', "sh", *DATABASE])
        until(lambda: head.run(["test", "-S", "/run/mysqld/mysqld.sock"], check=False).returncode == 0, "the database")
        head.run(["/usr/sbin/slurmdbd"], ADMIN, cwd="/")
        sacctmgr = ["sacctmgr", "-i", "add"]
        until(lambda: head.run([*sacctmgr, "cluster", "test"], check=False).returncode == 0, "slurmdbd answers")
        head.run([*sacctmgr, "account", "flock"])
        head.run([*sacctmgr, "user", ",".join(users), "account=flock"])
    head.run(["/usr/sbin/slurmctld"], ADMIN, cwd="/")
    until(lambda: head.run(["scontrol", "ping"], check=False).returncode == 0, "the controller answers")


def start_node(node: Host) -> None:
    start_munge(node)
    node.run(["slurmd", "-N", node.name])


def start_munge(host: Host) -> None:
    host.run(["install", "-d", "-o", ADMIN, "/run/slurm", STATE])
    host.run(["install", "-d", "-o", "munge", "/run/munge", "/var/log/munge"])
    options = ["--key-file=/etc/slurm/munge.key", "--seed-file=/run/munge/seed"]
    host.run(["/usr/sbin/munged", *options], "munge", cwd="/")


def nodes_up(head: Host) -> int:
    """How many nodes could run a job."""
    return head.run(["sinfo", "-h", "-N", "-p", "main", "-o", "%T"]).stdout.split().count("idle")
