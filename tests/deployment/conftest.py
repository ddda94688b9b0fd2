"""This machine, and one behind a real sshd."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sheepdog.deployment import SSHHost
from tests.cluster.packages import install, may_install
from tests.deployment.sshd import Sshd, key
from tests.waiting import until


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sheepdog") as name:  # tmp_path is too long for sockets
        yield Path(name)


@pytest.fixture(scope="module")
def sshd(servers: None, directory: Path) -> Iterator[Sshd]:
    if may_install() and os.getuid() == 0:
        install(("openssh-client", "openssh-server"))
        Path("/run/sshd").mkdir(exist_ok=True)  # else made by the daemon's start, which is left out
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    (directory / "home" / ".ssh").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    log = directory / "log"
    if program is not None:
        host_key = key(directory / "host_key")
        user_key = key(directory / "user_key")
        locked = key(directory / "locked_key", "baa baa")
        keys = [path.with_suffix(".pub").read_text() for path in (user_key, locked)]
        (directory / "authorized_keys").write_text("".join(keys))
        public = host_key.with_suffix(".pub").read_text()
        (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
        pam = "no" if os.getuid() == 0 else "yes"  # without it, a user's own sshd takes their account for locked
        (directory / "sshd_config").write_text(
            f"""
            ListenAddress 127.0.0.1
            Port {port}
            HostKey {host_key}
            AuthorizedKeysFile {directory}/authorized_keys
            AuthenticationMethods publickey
            PermitRootLogin yes
            StrictModes no
            UsePAM {pam}
            PidFile none
            SetEnv HOME={directory}/home
            """
        )
    config = directory / "client.conf"
    config.write_text(
        f"""
        Host far*
            HostName 127.0.0.1
            Port {port}
            User {getpass.getuser()}
            IdentityFile {directory}/user_key
            IdentitiesOnly yes
        Host *
            UserKnownHostsFile {directory}/known_hosts
            GlobalKnownHostsFile none
        """
    )
    server = None
    try:
        if program is not None:
            argv = [program, "-D", "-f", str(directory / "sshd_config"), "-E", str(log)]
            server = subprocess.Popen(argv, start_new_session=True)
            log.touch()
            until(lambda: server.poll() is not None or "listening" in log.read_text(), "it listens, or has ended")
        if server is None or server.poll() is not None:
            assert not os.environ.get("CI"), (
                f"sshd does not start: {log.read_text() if log.exists() else 'there is none'}"
            )
            pytest.skip("sshd does not start here")
        yield Sshd(port, log, config, directory)
    finally:
        if server is not None:
            server.terminate()
            server.wait()


@pytest.fixture(autouse=True)
def private(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own home, agent and masters out of the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def far(sshd: Sshd) -> Iterator[Callable[..., SSHHost]]:
    """Make SSHHosts, whose masters are ended after the test."""
    made: list[SSHHost] = []

    def make(name: str = "far", **options: object) -> SSHHost:
        host = SSHHost(name, **{"config_file": str(sshd.config), "interactive": False} | options)  # type: ignore[arg-type]
        made.append(host)
        return host

    yield make
    for host in made:
        host.close()
