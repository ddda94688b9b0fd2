"""The way home: by which name or address workers elsewhere reach this machine, as far as it is known here."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from typing import NamedTuple

from ..deployment import Host
from ..deployment.ssh import SSHHost
from ..errors import ConfigError, HostError

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
ASKING = 20.0  # seconds that a host may take to say which address of this machine it sees
LOOPBACK = ("localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "loopback", "broadcasthost")
ADVICE = "Set it to a name or an address of this machine by which the cluster reaches it"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ASK = 'echo "$SSH_CONNECTION"; [ -z "$1" ] || timeout 5 getent ahosts "$1" 2>/dev/null || true'


def check_way_home(name: str) -> None:
    """Raise ConfigError if the option localhost leads workers elsewhere.

    A name that is not known here passes: it may be known on the cluster.
    """
    said = f"localhost is {name!r}"
    advice = f"{ADVICE}, or leave it out"
    found = addresses(name)
    if is_loopback(name):
        raise ConfigError(f"{said}: on a compute node, that is the node itself. {advice}")
    if name.lower() in own_names():
        return  # Debian and others give it an address of the loopback here, and the right one elsewhere
    if found and all(address.is_loopback or address.is_unspecified for address in found):
        raise ConfigError(f"{said}: on a compute node, that is the node itself. {advice}")
    if found and not any(is_here(address) for address in found):
        others = ", ".join(map(str, found))
        raise ConfigError(f"{said}: {others} is no address of this machine, and workers would call there. {advice}")


def default_way_home(host: Host) -> str:
    """Return by which name or address workers elsewhere reach this machine, where the option localhost does not say.

    Raises ConfigError if nothing here or on the head node says it, HostError if that cannot be asked.
    """
    name = socket.getfqdn()
    if not is_loopback(name):
        return name
    found = WayHome().find([name], host)
    if is_loopback(found):
        raise ConfigError(
            f"localhost: this machine calls itself {name!r} (see /etc/hosts), and on a compute node that is the node "
            f"itself; by which address {host.name} sees it is not known either. {ADVICE}"
        )
    return found


class View(NamedTuple):
    """What a host says of this machine."""

    seen: str = ""
    """The address from which this machine's words come to it; empty if that is not known."""
    there: str = ""
    """Its own address, to which they go."""
    known: tuple[str, ...] = ()
    """The addresses under which it knows this machine's name."""

    @property
    def leads_here(self) -> bool:
        """Whether the name leads from there to this machine."""
        return any(map(is_own, self.known))


class WayHome:
    """By which name or address workers are to call this machine: it may have others than before."""

    def __init__(self) -> None:
        self.led: set[str] = set()  # the names that have led here
        self.views: dict[str, tuple[View, str]] = {}  # this machine's own names -> a host's view, and from where

    def find(self, names: Iterable[str], host: Host) -> str:
        """Return the first of these names that leads here now; if none does any more, this machine's address.

        A name that never has stays: it may be translated on the way. An address leads here if it is one of this
        machine's. HostError if the head node is to say what it knows, and cannot be asked.
        """
        names = list(names)
        for name in names:
            if self._leads_here(name, host):
                return name
        if not any(name in self.led or name in self.views or parse(name) or is_loopback(name) for name in names):
            return names[0]
        view = anew(host)
        # An /etc/hosts that says `127.0.0.1 localhost vm` makes the full name of vm localhost: vm is better.
        return towards(view) or next(
            (name for name in (*names, socket.gethostname()) if not is_loopback(name)), names[0]
        )

    def _leads_here(self, name: str, host: Host) -> bool:
        """Tell whether a name or an address leads here, as far as is known here, or there if it is only its own."""
        found = addresses(name)
        if not is_only_own(name, found):
            if leads := leads_here(name, found):
                self.led.add(name)
            return leads
        view, where = self.views.get(name, (None, ""))
        if view is None or (not view.leads_here and source(view.there) != where):
            view = anew(host, name)
            self.views[name] = view, source(view.there)
        if view.leads_here:
            self.led.add(name)
            return True
        return name not in self.led and not is_own(view.seen)


def leads_here(name: str, found: list[Address]) -> bool:
    """Tell whether a name or address may lead to this machine. found are its addresses; without one, it may."""
    return not is_loopback(name) and (not found or any(is_here(each) for each in found if not each.is_loopback))


def is_only_own(name: str, found: list[Address]) -> bool:
    """Tell whether a name is known here as this machine's own and no more: Debian's /etc/hosts says 127.0.1.1 of it."""
    if is_loopback(name) or not all(address.is_loopback for address in found):
        return False
    return bool(found) or name.lower() in own_names()


def own_names() -> set[str]:
    """Return what this machine calls itself."""
    return {each.lower() for each in (socket.gethostname(), socket.getfqdn())}


def anew(host: Host, name: str = "") -> View:
    """Return what a host says of this machine; if a connection hangs, over another."""
    try:
        return ask(host, name)
    except HostError:
        if not isinstance(host, SSHHost):
            raise
        host.close()  # the connection that is shared was made from the old address, and hangs
        return ask(host, name)


def ask(host: Host, name: str = "") -> View:
    """Ask a host which address of this machine it sees, and which it knows for a name."""
    said = host.run(["sh", "-c", ASK, "sh", name], timeout=ASKING).decode(errors="replace")
    connection, _, found = said.partition("\n")
    known = tuple(line.split()[0] for line in found.splitlines() if line.strip())
    parts = connection.split()
    if len(parts) != 4:  # it is this machine, or no OpenSSH
        return View(known=known)
    return View(parts[0], parts[2], known)


def address_towards(host: Host) -> str:
    """Return this machine's address as a host sees it, or else the one from which packets go there; empty if unknown.

    Behind a translation of addresses, or a jump host, what the host sees is none of this machine's.
    """
    return towards(ask(host))


def towards(view: View) -> str:
    """Return this machine's address for workers at a host with this view; empty if unknown."""
    return next((str(parse(each)) for each in (view.seen, source(view.there)) if is_own(each)), "")


def source(address: str) -> str:
    """Return the address of this machine from which packets to another go; nothing is sent."""
    found = parse(address)
    if found is None:
        return ""
    try:
        with socket.socket(family(found), socket.SOCK_DGRAM) as probe:
            probe.connect((str(found), 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def parse(text: str) -> Address | None:
    """Return the address that a text is; None if it is a name. One of IPv4 in the clothes of IPv6 is one of IPv4."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_own(text: str) -> bool:
    """Tell whether a text is an address of this machine by which others can reach it."""
    address = parse(text)
    if address is None:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_unspecified) and is_here(address)


def is_loopback(name: str) -> bool:
    """Tell whether a name or an address is the loopback's on every machine, or none that leads anywhere."""
    address = parse(name)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    name = name.lower().rstrip(".")
    # Some systems' full name is the one under which their address is looked up.
    return not name or name.split(".")[0] in LOOPBACK or name.endswith((".localhost", ".in-addr.arpa", ".ip6.arpa"))


def addresses(name: str) -> list[Address]:
    """Return the addresses of a name, as far as they are known here."""
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # unknown, or no name at all
        return []
    return list(dict.fromkeys(found for info in infos if (found := parse(str(info[4][0])))))


def is_here(address: Address) -> bool:
    """Tell whether an address is one of this machine's."""
    try:
        with socket.socket(family(address), socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return address.is_link_local or error.errno not in NOT_HERE
    return True


def family(address: Address) -> socket.AddressFamily:
    """Return the family of sockets for an address."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
