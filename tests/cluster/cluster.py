"""Put hosts, users, network, sshd and a batch system together."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

from tests.cluster import gridengine, packages, slurm
from tests.cluster.files import ADDRESSES, USERS, write_files
from tests.cluster.hosts import Host, HostFailed, Program
from tests.waiting import until

NODES = ("node1", "node2")
# Head's two networks. As they are bridges, its addresses and routes outlast a cable.
BRIDGES = {"lan": ADDRESSES["head"], "wan": "10.99.0.1"}

# Mounts are private to the host: nothing of the machine's own files changes. /etc is a copy: a file that is mounted
# over another goes when the machine puts a new one in its place, as a package does with /etc/ld.so.cache or passwd.
MOUNT_ALL = """
mount --bind "$1/$2/etc" /etc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/sshd
"""
# Users cannot read /root, where an interpreter and its libpython may live: hence /opt, and a cache that finds
# libpython there first. /tmp is last, as it hides the directory that the mounts come from.
MOUNT_CLUSTER = """
state=$1 host=$2; shift 2
for absent in $1; do mount --bind /dev/null "/usr/bin/$absent"; done; shift
for python; do
  mount --bind -o ro "${python#*=}" "$state/$host/opt/${python%%=*}"
done
mount --rbind "$state/$host/opt" /opt
printf '/opt/lib\\ninclude /etc/ld.so.conf\\n' >/run/ld.so.conf
ldconfig -X -f /run/ld.so.conf
mount --bind "$state/home" /home
mount --bind "$state/cell" /var/lib/gridengine/default
mount --bind -o ro "$state/arch" /usr/share/gridengine/util/arch
mount --bind "$state/$host/spool" /var/spool/gridengine
mount --bind "$state/slurm" /etc/slurm
mount --bind "$state/$host/spool" /var/lib/slurm
mount -t tmpfs tmpfs /var/log/munge
mount -t tmpfs -o mode=700 tmpfs /root
install -d -o sgeadmin /run/gridengine
mount --bind "$state/$host/tmp" /tmp
"""


class Cluster:
    """The cluster. `with` brings it up and takes it down.

    pythons are more interpreters for head and the nodes: name under /opt -> installation prefix on this machine.
    If bare, they have no Python at all. shell_start_mode is Grid Engine's, accounting Slurm's.
    """

    def __init__(
        self,
        shell_start_mode: str = "unix_behavior",
        slots: int = 4,
        pythons: Mapping[str, str | os.PathLike[str]] | None = None,
        scheduler: Literal["gridengine", "slurm"] = "gridengine",
        accounting: bool = True,
        bare: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.accounting = accounting
        self.shell_start_mode = shell_start_mode
        self.slots = slots
        self.pythons = {} if bare else {"python": sys.base_prefix, **(pythons or {})}
        self.absent = own_pythons() if bare else ""
        self.directory = Path()
        self._hosts: dict[str, Host] = {}
        self._remover: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        """The home of root on outside, which is the same directory here."""
        return self.directory / "user"

    def home_of(self, user: str) -> Path:
        """The directory which on head and the nodes is /home/USER, as seen from here."""
        return self.directory / "home" / user

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *error: object) -> None:
        self.down()

    def up(self) -> None:
        if reason := packages.unavailable():
            raise HostFailed(reason)
        packages.install()
        try:
            self._make_directory()
            for name in ("head", "outside", *NODES):
                self._start(name)
            self.on("head", ["/usr/sbin/sshd"])
            head = self._hosts["head"]
            if self.scheduler == "slurm":
                slurm.start_master(head, list(USERS), self.accounting)
            else:
                gridengine.start_master(head, list(NODES), self.slots, self.shell_start_mode)
            for name in NODES:
                self._system.start_node(self._hosts[name])
            until(lambda: self._system.nodes_up(head) == len(NODES), "all nodes report to the master")
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        for host in self._hosts.values():
            host.stop()
        self._hosts = {}
        if self._remover:
            self._remover.communicate(b"\n")
            self._remover = None

    def on(
        self, host: str, command: Sequence[str | os.PathLike[str]], user: str = "root", **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end; see Host.run for the options."""
        return self._hosts[host].run(command, user, **options)

    def popen(
        self, host: str, command: Sequence[str | os.PathLike[str]], user: str = "root", **options: Any
    ) -> Program:
        """Start a command on a host; see Host.popen for the options."""
        return self._hosts[host].popen(command, user, **options)

    def pid(self, host: str) -> int:
        """The host's first process, as numbered here."""
        return self._hosts[host].pid

    def cut(self, host: str) -> None:
        """Pull the host's network cable: packets are lost, and connections wait."""
        self._cables(host, "down")

    def mend(self, host: str) -> None:
        """Plug the cable in again."""
        self._cables(host, "up")

    def kill(self, host: str) -> None:
        """Cut the host's power."""
        self._hosts[host].stop()
        # The kernel does it too, some time after the last process has gone.
        self.on("head", ["ip", "link", "delete", f"to-{host}"], check=False)

    def boot(self, host: str) -> None:
        """Start a killed host again, but not head; its disks are as they were."""
        self._start(host)
        if host in NODES:
            self._system.start_node(self._hosts[host])

    @property
    def _system(self) -> ModuleType:
        return slurm if self.scheduler == "slurm" else gridengine

    def _make_directory(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cluster-", dir="/tmp"))
        # Removes the directory when it is told to by down(), or when its input is closed by our death. It tries
        # again while the last of the hosts' processes still write there.
        self._remover = subprocess.Popen(
            ["sh", "-c", 'read -r _; until rm -rf "$1"; do sleep 0.1; done', "sh", self.directory],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.directory.chmod(0o755)
        (self.directory / "owner").write_text(str(os.getpid()))
        write_files(self.directory, self.pythons)
        gridengine.make_cell(self.directory / "cell")
        slurm.make_configuration(self.directory / "slurm", list(NODES), self.slots, self.accounting)

    def _start(self, name: str) -> None:
        host = self._hosts[name] = Host(name)
        host.start()
        (self.directory / name / "pid").write_text(str(host.pid))
        host.run(["sh", "-eu", "-c", MOUNT_ALL, "sh", self.directory, name], cwd="/")
        if name != "outside":
            pythons = [f"{path}={prefix}" for path, prefix in self.pythons.items()]
            absent = gridengine.COMMANDS if self.scheduler == "slurm" else slurm.COMMANDS
            absent = f"{absent} {self.absent}"
            host.run(["sh", "-eu", "-c", MOUNT_CLUSTER, "sh", self.directory, name, absent, *pythons], cwd="/")
        if name == "head":
            for bridge, address in BRIDGES.items():
                # Else a bridge takes a new hardware address when a port goes, and its neighbours lose it for a minute.
                hardware = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
                self._ip(
                    "head", f"link add {bridge} address {hardware} type bridge", f"addr add {address}/24 dev {bridge}"
                )
                self._ip("head", f"link set {bridge} up")
            host.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
        else:
            self._wire(name)

    def _wire(self, name: str) -> None:
        """Lay a cable from head; its end there is called to-NAME."""
        ends = [f"to-{name} netns {self.pid('head')}", f"eth0 netns {self.pid(name)}"]
        subprocess.run(f"ip link add {ends[0]} type veth peer name {ends[1]}".split(), check=True)
        bridge = "lan" if name in NODES else "wan"
        self._ip("head", f"link set to-{name} master {bridge} up")
        self._ip(name, f"addr add {ADDRESSES[name]}/24 dev eth0", "link set eth0 up")
        self._ip(name, f"route add default via {BRIDGES[bridge]}")

    def _cables(self, host: str, state: str) -> None:
        ends = [f"to-{name}" for name in self._hosts if name != "head" and host in (name, "head")]
        self._ip("head", *(f"link set {end} {state}" for end in ends))

    def _ip(self, host: str, *commands: str) -> None:
        self.on(host, ["ip", "-batch", "-"], input="".join(f"{command}\n" for command in commands))


def own_pythons() -> str:
    """The names of this machine's own Pythons, which the hosts would see: all others are hidden from them."""
    found = [path for pattern in ("python*", "pypy*") for path in Path("/usr/bin").glob(pattern)]
    return " ".join(path.name for path in found if path.is_file() and not path.is_symlink())
