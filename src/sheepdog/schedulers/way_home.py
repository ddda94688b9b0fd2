"""The way home: whether workers elsewhere can reach this machine by the name that they are to be told."""

from __future__ import annotations

import errno
import ipaddress
import socket

from ..errors import ConfigError

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
LOOPBACK = ("localhost", "ip6-localhost", "ip6-loopback")


def check_way_home(name: str) -> None:
    """Raise ConfigError if the option localhost leads workers elsewhere.

    A name that is not known here passes: it may be known on the cluster.
    """
    said = f"localhost is {name!r}"
    advice = "Set it to a name or an address of this machine by which the cluster reaches it, or leave it out"
    own = {each.lower() for each in (socket.gethostname(), socket.getfqdn())}
    found = addresses(name)
    if name.lower().split(".")[0] in LOOPBACK or name.lower().endswith(".localhost"):
        raise ConfigError(f"{said}: on a compute node, that is the node itself. {advice}")
    if name.lower() in own:
        return  # Debian and others give it an address of the loopback here, and the right one elsewhere
    if found and all(address.is_loopback or address.is_unspecified for address in found):
        raise ConfigError(f"{said}: on a compute node, that is the node itself. {advice}")
    if found and not any(is_here(address) for address in found):
        others = ", ".join(map(str, found))
        raise ConfigError(f"{said}: {others} is no address of this machine, and workers would call there. {advice}")


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
