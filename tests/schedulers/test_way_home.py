"""What the option localhost may be where the workers are elsewhere."""

import socket
from pathlib import Path

import pytest

import sheepdog
from sheepdog.deployment import LocalHost
from sheepdog.errors import ConfigError
from sheepdog.schedulers import way_home
from sheepdog.schedulers.way_home import (
    WayHome,
    address_towards,
    addresses,
    check_way_home,
    default_way_home,
    is_own,
    leads_here,
)
from tests.faults import fault


@fault("way home", "localhost is a name or address that leads workers elsewhere", promise="it is refused at once")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        *[(name, "the node itself") for name in ("localhost", "LOCALHOST", "localhost.localdomain", "a.localhost")],
        *[(name, "the node itself") for name in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "ip6-localhost")],
        *[(name, "the node itself") for name in ("::ffff:127.0.0.1", "::ffff:7f00:1", "::", "127.1", "0", "0x7f.1")],
        *[
            (name, "the node itself")
            for name in ("localhost6", "localhost4.localdomain4", "localhost.", "1.0.ip6.arpa")
        ],
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
        ("::ffff:192.0.2.1", "192.0.2.1 is no address of this machine"),
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


ELSEWHERE = "192.0.2.1"


def test_what_leads_here_now(here: str) -> None:
    for name in (here, f"::ffff:{here}", "known-on-the-cluster.invalid"):
        assert leads_here(name, addresses(name))
    for name in ("localhost", ELSEWHERE, "2001:db8::1"):
        assert not leads_here(name, addresses(name))
    assert is_own(f"::ffff:{here}")
    assert not is_own("::ffff:127.0.0.1")


@pytest.mark.parametrize(
    ("connection", "found"),
    [
        ("HERE 50000 198.51.100.1 22", True),
        ("::ffff:HERE 50000 ::ffff:198.51.100.1 22", True),
        ("192.0.2.9 50000 ::ffff:198.51.100.1 22", True),
        ("192.0.2.9 50000 198.51.100.1 22", True),  # translated on the way: then the one from which packets go there
        ("192.0.2.9 50000 nowhere 22", False),
        ("127.0.0.1 50000 127.0.0.1 22", False),
        ("", False),
        ("what else", False),
    ],
)
def test_this_machines_address_towards_a_host(
    here: str, monkeypatch: pytest.MonkeyPatch, connection: str, found: bool
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", connection.replace("HERE", here))
    assert address_towards(LocalHost()) == (here if found else "")


NAMELESS = ["localhost", "localhost.localdomain", "LOCALHOST6", "127.0.0.1", "1.0.0.127.in-addr.arpa", ""]


@fault("way home", "this machine calls itself localhost", promise="the head node's word, its host name, or an error")
@pytest.mark.parametrize("name", NAMELESS)
def test_a_machine_whose_full_name_is_the_loopbacks(
    here: str, monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    monkeypatch.setattr(socket, "gethostname", lambda: "vm")
    assert default_way_home(LocalHost()) == here
    monkeypatch.setenv("SSH_CONNECTION", "")
    assert default_way_home(LocalHost()) == "vm"
    assert WayHome().find([name], LocalHost()) == "vm"  # the workers that are submitted later
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    config = {"scheduler": "gridengine", "dbfile": str(tmp_path / "db")}
    with pytest.raises(ConfigError, match=r"localhost: this machine calls itself .*/etc/hosts.*Set it to"):
        sheepdog.map_async(print, [(1,)], config)
    assert not sheepdog.Server(dbfile=str(tmp_path / "db")).running


def test_a_machine_that_has_a_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "vm.example.com")
    assert default_way_home(LocalHost()) == "vm.example.com"  # nobody is asked


@fault("another address", "the name that workers call leads elsewhere now", promise="the head node says where this is")
def test_the_way_home_is_found_anew(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    way = WayHome()
    assert way.find([here, "other.invalid"], LocalHost()) == here
    assert way.find([ELSEWHERE, here], LocalHost()) == here
    assert way.find([ELSEWHERE], LocalHost()) == here
    assert way.find(["a.invalid"], LocalHost()) == "a.invalid"
    monkeypatch.setenv("SSH_CONNECTION", "")
    assert way.find([ELSEWHERE], LocalHost()) == ELSEWHERE  # nobody knows better


def test_a_name_that_never_led_here_may_be_translated_on_the_way(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"gate": ELSEWHERE, "mine": here}
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *a, **more: real(table.get(name, name), *a, **more))
    way = WayHome()
    assert way.find(["gate"], LocalHost()) == "gate"
    assert way.find(["mine"], LocalHost()) == "mine"
    table["mine"] = ELSEWHERE
    assert way.find(["mine"], LocalHost()) == here


class Laptop:
    """A machine whose own name is one of the loopback in /etc/hosts, and of its old address elsewhere."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch, self.asked, self.words = monkeypatch, place / "asked", place / "words"
        self.asked.touch()
        real = socket.getaddrinfo
        table = {"laptop": "127.0.1.1"}
        monkeypatch.setattr(socket, "getaddrinfo", lambda name, *a, **more: real(table.get(name, name), *a, **more))
        getent = place / "getent"
        getent.write_text(f'#!/bin/sh\necho "$2" >> {self.asked}\ncat {self.words}\n')
        getent.chmod(0o755)
        monkeypatch.setenv("PATH", str(place), prepend=":")
        self.is_known_as(OLD)
        self.move(OLD)

    def is_known_as(self, address: str) -> None:
        self.words.write_text(f"{address} STREAM laptop\n{address} DGRAM\n" if address else "")

    def move(self, address: str) -> None:
        self.patch.setattr(way_home, "is_here", lambda found: str(found) == address)
        self.patch.setattr(way_home, "source", lambda there: address)
        self.patch.setenv("SSH_CONNECTION", f"{address} 50000 198.51.100.1 22")

    @property
    def questions(self) -> int:
        return len(self.asked.read_text().split())


OLD, NEW = "192.0.2.7", "192.0.2.77"


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    return Laptop(tmp_path, monkeypatch)


@fault(
    "another address",
    "/etc/hosts gives this machine's own name an address of the loopback, as Debian's does",
    promise="the head node says whether the name leads here; it is asked again when this machine's address changes",
)
def test_a_name_that_is_known_here_as_the_loopbacks(laptop: Laptop) -> None:
    way = WayHome()
    for _ in range(3):
        assert way.find(["laptop"], LocalHost()) == "laptop"
    assert laptop.questions == 1
    laptop.move(NEW)
    assert way.find(["laptop"], LocalHost()) == NEW
    assert way.find([NEW, "laptop"], LocalHost()) == NEW
    assert WayHome().find(["laptop"], LocalHost()) == NEW  # of a server that was started after that
    laptop.move(OLD)
    assert way.find([NEW, "laptop"], LocalHost()) == "laptop"


def test_a_name_that_the_head_node_does_not_know(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    laptop.is_known_as("")
    assert WayHome().find(["laptop"], LocalHost()) == OLD
    assert WayHome().find(["known-to-the-nodes.invalid"], LocalHost()) == "known-to-the-nodes.invalid"
    laptop.is_known_as("127.0.1.1")  # that is the head node itself, which has the same name
    assert WayHome().find(["laptop"], LocalHost()) == OLD
    laptop.is_known_as("198.51.100.9")  # which is translated on the way
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50000 198.51.100.1 22")
    assert WayHome().find(["laptop"], LocalHost()) == "laptop"
