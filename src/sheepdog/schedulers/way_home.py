"""The way home: by which name or address workers elsewhere reach this machine, as far as it is known here."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable

from ..deployment import Host
from ..deployment.ssh import SSHHost
from ..errors import ConfigError, HostError

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
ASKING = 20.0  # seconds that a host may take to say which address of this machine it sees
LOOPBACK = ("localhost", "ip6-localhost", "ip6-loopback")


def check_way_home(name: str) -> None:
    """Raise ConfigError if the option localhost leads workers elsewhere.

    A name that is not known here passes: it may be known on the cluster.
    """
    said = f"localhost is {name!r}"
    advice = "Set it to a name or an address of this machine by which the cluster reaches it, or leave it out"
    own = {each.lower() for each in (socket.gethostname(), socket.getfqdn())}
    found = addresses(name)
    if is_loopback(name):
        raise ConfigError(f"{said}: on a compute node, that is the node itself. {advice}")
    if name.lower() in own:
        return  # Debian and others give it an address of the loopback here, and the right one elsewhere
    if found and all(address.is_loopback or address.is_unspecified for address in found):
        raise ConfigError(f"{said}: on a compute node, that is the node itself. {advice}")
    if found and not any(is_here(address) for address in found):
        others = ", ".join(map(str, found))
        raise ConfigError(f"{said}: {others} is no address of this machine, and workers would call there. {advice}")


class WayHome:
    """By which name or address workers are to call this machine: it may have others than before."""

    def __init__(self) -> None:
        self.led: set[str] = set()  # the names that have led here

    def find(self, names: Iterable[str], host: Host) -> str:
        """Return the first of these names that leads here now; if none does any more, this machine's address.

        A name that never has stays: it may be translated on the way. An address leads here if it is one of this
        machine's. HostError if the head node is to say which that is now, and cannot be asked.
        """
        names = list(names)
        now = [name for name in names if leads_here(name)]
        self.led.update(now)
        if now:
            return now[0]
        if not any(name in self.led or is_address(name) or is_loopback(name) for name in names):
            return names[0]
        try:
            return address_towards(host) or names[0]
        except HostError:
            if not isinstance(host, SSHHost):
                raise
            host.close()  # the connection that is shared was made from the old address, and hangs
            return address_towards(host) or names[0]


def leads_here(name: str) -> bool:
    """Tell whether a name or address may lead to this machine. One that is not known here, or only as its own, may."""
    if is_loopback(name):
        return False
    found = [address for address in addresses(name) if not address.is_loopback]
    return not found or any(map(is_here, found))


def address_towards(host: Host) -> str:
    """Return this machine's address as a host sees it, or else the one from which packets go there; empty if unknown.

    Behind a translation of addresses, or a jump host, what the host sees is none of this machine's.
    """
    said = host.run(["sh", "-c", 'echo "$SSH_CONNECTION"'], timeout=ASKING).decode(errors="replace").split()
    if len(said) != 4:  # it is this machine, or no OpenSSH
        return ""
    seen, _, there, _ = said
    return next((each for each in (seen, source(there)) if each and is_own(each)), "")


def source(address: str) -> str:
    """Return the address of this machine from which packets to another go; nothing is sent."""
    try:
        found = ipaddress.ip_address(address)
        with socket.socket(socket.AF_INET if found.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except (OSError, ValueError):
        return ""


def is_address(text: str) -> bool:
    """Tell whether a text is an address, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_own(text: str) -> bool:
    """Tell whether a text is an address of this machine by which others can reach it."""
    if not is_address(text):
        return False
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_link_local or address.is_unspecified) and is_here(address)


def is_loopback(name: str) -> bool:
    """Tell whether a name is that of the loopback on every machine."""
    return name.lower().split(".")[0] in LOOPBACK or name.lower().endswith(".localhost")


def addresses(name: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses of a name, as far as they are known here."""
    try:
        infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # unknown, or no name at all
        return []
    return list(dict.fromkeys(ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in infos))


def is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether an address is one of this machine's."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return address.is_link_local or error.errno not in NOT_HERE
    return True
