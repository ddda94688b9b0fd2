"""Start Grid Engine on the hosts, from nothing, quick to act."""

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.files import file, folder
from tests.cluster.hosts import Host
from tests.waiting import until

SHARE = Path("/usr/share/gridengine")
RESOURCES = SHARE / "util/resources"
BIN = "/usr/lib/gridengine"
COMMANDS = "qsub qstat qdel qconf qacct"  # of the other systems there is none
ADMIN = "sgeadmin"
ENVIRONMENT = {"SGE_ROOT": "/var/lib/gridengine", "SGE_CELL": "default", "SGE_SINGLE_LINE": "1"}

GLOBAL = {
    "load_report_time": "00:00:05",
    "max_unheard": "00:00:20",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00",
}
SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
EXECUTION_HOST = """\
hostname {name}
load_scaling NONE
complex_values gpu=1
user_lists NONE
xuser_lists NONE
projects NONE
xprojects NONE
usage_scaling NONE
report_variables NONE
"""
GPU = "gpu gpu INT <= YES JOB 0 0\n"
ENVIRONMENTS = {"mpi": "$fill_up", "smp": "$pe_slots"}
ENVIRONMENT_OF_SLOTS = """\
pe_name {name}
slots 999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule {rule}
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""


def make_cell(cell: Path) -> None:
    """Write what all hosts share: where the master is, and where it keeps its files."""
    admin = pwd.getpwnam(ADMIN).pw_uid
    folder(cell, owner=admin)
    folder(cell / "common", owner=admin)
    file(cell / "common/bootstrap", (SHARE / "default-bootstrap").read_text())
    file(cell / "common/act_qmaster", "head\n")
    os.chown(cell / "common/act_qmaster", admin, admin)  # the master writes its name again


def start_master(head: Host, nodes: list[str], slots: int, shell_start_mode: str) -> None:
    """Start sge_qmaster with the nodes as execution hosts, and one queue over them."""
    spool = "/var/spool/gridengine"
    head.run(["install", "-d", "-o", ADMIN, f"{spool}/qmaster", f"{spool}/qmaster/job_scripts", f"{spool}/spooldb"])
    # As Debian's /usr/share/gridengine/scripts/init_cluster does.
    config = changed((SHARE / "default-configuration").read_text(), GLOBAL)
    admin(head, [f"{BIN}/spoolinit", "berkeleydb", "libspoolb", f"{spool}/spooldb", "init"])
    admin(head, [f"{BIN}/spooldefaults", "configuration"], config)
    admin(head, [f"{BIN}/spooldefaults", "complexes", f"{RESOURCES}/centry"])
    admin(head, [f"{BIN}/spooldefaults", "usersets", f"{RESOURCES}/usersets"])
    admin(head, [f"{BIN}/spooldefaults", "managers", ADMIN])
    head.run(["sh", "-c", "sge_qmaster >/dev/null"], env=ENVIRONMENT)
    until(lambda: head.run(["qconf", "-sh"], check=False).returncode == 0, "the master answers")
    admin(head, ["qconf", "-Mc"], admin(head, ["qconf", "-sc"]) + GPU)
    for name, rule in ENVIRONMENTS.items():
        admin(head, ["qconf", "-Ap"], ENVIRONMENT_OF_SLOTS.format(name=name, rule=rule))
    for name in nodes:
        admin(head, ["qconf", "-ah", name])
        admin(head, ["qconf", "-Ae"], EXECUTION_HOST.format(name=name))
    admin(head, ["qconf", "-as", "head"])
    queue = {
        "qname": "all.q",
        "hostlist": " ".join(nodes),
        "slots": str(slots),
        "load_thresholds": "NONE",
        "pe_list": " ".join(ENVIRONMENTS),
        "shell_start_mode": shell_start_mode,
    }
    admin(head, ["qconf", "-Aq"], changed(admin(head, ["qconf", "-sq"]), queue))
    admin(head, ["qconf", "-Msconf"], changed(admin(head, ["qconf", "-ssconf"]), SCHEDULER))


def start_node(node: Host) -> None:
    node.run(["install", "-d", "-o", ADMIN, "/var/spool/gridengine/execd"])
    # In the background: its first process takes two seconds to end.
    node.run(["sh", "-c", "setsid --fork sge_execd >/dev/null 2>&1"], env=ENVIRONMENT)


def nodes_up(head: Host) -> int:
    """How many nodes report to the master: the state column of their queue is empty."""
    return len(re.findall(r"lx-amd64 *$", head.run(["qstat", "-f"]).stdout, re.M))


def admin(head: Host, command: list[str], text: str = "") -> str:
    """Run a command as Grid Engine's manager; text goes into a file, the command's last word."""
    if text:
        command = ["sh", "-c", 'cat >/tmp/settings && "$@" /tmp/settings && rm /tmp/settings', "sh", *command]
    return head.run(command, ADMIN, input=text, env=ENVIRONMENT).stdout


def changed(text: str, values: Mapping[str, str]) -> str:
    """A configuration as qconf shows it, with other values."""
    for key, value in values.items():
        text, count = re.subn(rf"^{key}\s.*", f"{key} {value}", text, flags=re.M)
        assert count == 1, f"Grid Engine has no setting {key}"
    return text
