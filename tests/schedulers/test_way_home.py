"""What the option localhost may be where the workers are elsewhere."""

import socket
from pathlib import Path

import pytest

import sheepdog
from sheepdog.errors import ConfigError
from sheepdog.schedulers.way_home import addresses, check_way_home
from tests.faults import fault


@fault("way home", "localhost is a name or address that leads workers elsewhere", promise="it is refused at once")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        *[(name, "the node itself") for name in ("localhost", "LOCALHOST", "localhost.localdomain", "a.localhost")],
        *[(name, "the node itself") for name in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "ip6-localhost")],
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
        ("2001:db8::1", "2001:db8::1 is no address of this machine"),
    ],
)
def test_what_leads_elsewhere(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"localhost is '{name}'.*{why}.*Set it to"):
        check_way_home(name)


def test_what_may_lead_here() -> None:
    """Its own name may have an address of the loopback here, and the right one on the cluster."""
    for name in {socket.gethostname(), socket.getfqdn(), "known-on-the-cluster.invalid"} - {"localhost"}:
        check_way_home(name)
    for address in addresses(socket.gethostname()):
        if not address.is_loopback:
            check_way_home(str(address))


def test_it_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    config = {"host": "no-such-sheep.invalid", "scheduler": "slurm", "dbfile": str(tmp_path / "db")}
    with pytest.raises(ConfigError, match="the node itself"):
        sheepdog.map_async(print, [(1,)], {**config, "localhost": "127.0.0.1"})
    assert not sheepdog.Server(dbfile=str(tmp_path / "db")).running
