"""The same contract for this machine and for one behind a real sshd; then what only ssh can do wrong."""

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sheepdog.deployment import hosts as deployment
from sheepdog.deployment import upload
from sheepdog.deployment.hosts import Host, LocalHost, SSHHost, ssh_config
from sheepdog.deployment.upload import marks, upload_and_run
from sheepdog.errors import CommandFailed, ConfigError, HostError
from tests.faults import fault

NASTY = ["two words", "", "'", '"', "a\nb", "$HOME", "`id`", "\\", "*", "!", "~", "-n", ";&|<>", "äöü 🐑", "a'b\"c\\'"]
SHELLS = [path for name in ("bash", "dash", "csh", "tcsh", "fish", "zsh") if (path := shutil.which(name))]


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


@dataclass(frozen=True)
class Sshd:
    """A running sshd, and a client's configuration in which it is called `far`."""

    port: int
    log: Path
    config: Path
    directory: Path

    def logins(self) -> int:
        return self.log.read_text().count("Accepted publickey")

    def client(self, name: str, text: str) -> str:
        """Another client's configuration, for what goes before the usual one: the first value counts."""
        path = self.directory / f"{name}.conf"
        path.write_text(f"Host far*\n{text}\n" + self.config.read_text())
        return str(path)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sheepdog") as name:  # tmp_path is too long for sockets
        yield Path(name)


@pytest.fixture(scope="module")
def sshd(directory: Path) -> Iterator[Sshd]:
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
            eventually(lambda: server.poll() is not None or "listening" in log.read_text())
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


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    return LocalHost() if request.param == "local" else request.getfixturevalue("far")()


@pytest.fixture
def home(host: Host, directory: Path, tmp_path: Path) -> Iterator[Path]:
    home = tmp_path if isinstance(host, LocalHost) else directory / "home"
    yield home
    shutil.rmtree(home / ".sheepdog", ignore_errors=True)


def sleeping(pid: Path) -> list[str]:
    """A command that does not end, and leaves its process's number in a file."""
    return ["sh", "-c", 'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 1000', "sh", str(pid)]


def end(pid: Path) -> None:
    """End what sshd does not: a command whose connection is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGKILL)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestEveryHost:
    def test_output_is_returned(self, host: Host) -> None:
        assert host.run(["printf", "%s", "baa"]) == b"baa"

    def test_input_arrives_unchanged(self, host: Host) -> None:
        data = bytes(range(256)) * 4000
        assert host.run(["cat"], input=data) == data

    def test_no_input_is_an_end_of_file(self, host: Host) -> None:
        assert host.run(["cat"]) == b""

    def test_input_that_nobody_reads(self, host: Host) -> None:
        assert host.run(["true"], input=b"x" * 1_000_000) == b""

    def test_arguments_arrive_as_they_are(self, host: Host) -> None:
        assert host.run(["printf", "%s\\0", *NASTY]).decode().split("\0") == [*NASTY, ""]

    @pytest.mark.parametrize("status", [1, 2, 100, 254])
    def test_a_status_is_an_error(self, host: Host, status: int) -> None:
        script = f"echo out; echo no sheep here >&2; exit {status}"
        with pytest.raises(CommandFailed) as caught:
            host.run(["sh", "-c", script])
        assert caught.value.status == status
        assert caught.value.output == b"out\n"
        assert caught.value.errors == b"no sheep here\n"
        assert str(caught.value) == f"`sh -c '{script}'` on {host.name} failed with status {status}: no sheep here"

    def test_a_long_complaint_is_cut_at_its_beginning(self, host: Host) -> None:
        with pytest.raises(CommandFailed, match=r"the reason$") as caught:
            host.run(["sh", "-c", "yes | head -n 100000 >&2; echo the reason >&2; exit 1", "x" * 1000])
        assert len(str(caught.value)) < 1300

    def test_a_silent_failure(self, host: Host) -> None:
        with pytest.raises(CommandFailed, match="failed with status 1: it said nothing"):
            host.run(["false"])

    def test_no_such_program(self, host: Host) -> None:
        with pytest.raises(CommandFailed, match="no-such-sheep") as caught:
            host.run(["no-such-sheep"])
        assert caught.value.status == 127

    def test_a_command_that_takes_too_long(self, host: Host, tmp_path: Path) -> None:
        begun = time.monotonic()
        with pytest.raises(HostError, match=f"on {host.name} took longer than 0.5 s"):
            host.run(sleeping(tmp_path / "pid"), timeout=0.5)
        assert time.monotonic() - begun < 20
        end(tmp_path / "pid")
        assert host.run(["echo", "still here"]) == b"still here\n"

    def test_an_empty_command(self, host: Host) -> None:
        with pytest.raises((ValueError, IndexError)):
            host.run([])

    def test_three_threads_at_once(self, host: Host) -> None:
        found: dict[int, bytes] = {}

        def work(number: int) -> None:
            found[number] = host.run(["sh", "-c", 'cat; echo "$1"', "sh", str(number)], input=b"x" * 100_000)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: b"x" * 100_000 + f"{number}\n".encode() for number in range(3)}

    def test_upload(self, host: Host, home: Path) -> None:
        files = {"job.sh": b"cat data.bin; pwd >&2; umask", "data.bin": os.urandom(5_000_000), "empty": b""}
        old = os.umask(0)
        try:
            output = upload_and_run(host, ".sheepdog/012", files, "job.sh")
        finally:
            os.umask(old)
        assert output == b"\n" + files["data.bin"] + b"0077\n"
        job = home / ".sheepdog" / "012"
        assert {path.name: path.read_bytes() for path in job.iterdir()} == files
        assert {mode(path) for path in job.iterdir()} == {0o600}
        assert mode(job) == mode(job.parent) == 0o700

    def test_upload_closes_what_was_open(self, host: Host, home: Path) -> None:
        job = home / ".sheepdog" / "x y"
        job.mkdir(parents=True)
        job.chmod(0o755)
        job.parent.chmod(0o777)
        (job / "run").write_text("an older one")
        (job / "run").chmod(0o777)
        assert upload_and_run(host, "~/.sheepdog/x y/", {"run": b"pwd"}, "run") == f"\n{job}\n".encode()
        assert (mode(job.parent), mode(job), mode(job / "run")) == (0o700, 0o700, 0o600)

    def test_upload_twice(self, host: Host, home: Path) -> None:
        for content in (b"echo one", b"echo one", b"echo two"):
            output = upload_and_run(host, ".sheepdog/1", {"run": content, "dash-": b""}, "run")
        assert output == b"\ntwo\n"
        assert sorted(path.name for path in (home / ".sheepdog" / "1").iterdir()) == ["dash-", "run"]

    def test_upload_to_an_absolute_directory(self, host: Host, home: Path) -> None:
        assert upload_and_run(host, f"{home}/.sheepdog/1", {"run": b"pwd"}, "run").decode() == f"\n{home}/.sheepdog/1\n"

    def test_upload_leaves_home_and_common_directories_open(self, host: Host, home: Path) -> None:
        common = home / ".sheepdog"
        common.mkdir()
        common.chmod(0o1777)
        home.chmod(0o755)
        upload_and_run(host, ".sheepdog/1", {"run": b""}, "run")
        upload_and_run(host, f"{home}/.sheepdog", {"run": b""}, "run")
        assert (mode(home), mode(common)) == (0o755, 0o700)
        common.chmod(0o1777)
        upload_and_run(host, ".sheepdog/1", {"run": b""}, "run")
        assert mode(common) == 0o1777

    def test_the_scripts_status(self, host: Host, home: Path) -> None:
        files = {"run": b"echo sheepdog:job 7; cat; echo qsub said no >&2; exit 3"}
        with pytest.raises(CommandFailed) as caught:
            upload_and_run(host, ".sheepdog/1", files, "run")
        assert caught.value.status == 3
        assert marks(caught.value.output) == {"job": "7"}
        assert str(caught.value) == (
            f"putting 1 files into .sheepdog/1 and running run on {host.name} failed with status 3: qsub said no"
        )

    @fault(48, "a directory on the host that cannot be made", promise="an error that names it")
    def test_a_directory_that_cannot_be_made(self, host: Host, home: Path) -> None:
        (home / ".sheepdog").write_text("a file")
        try:
            with pytest.raises(CommandFailed, match=r"putting 1 files into .sheepdog/1"):
                upload_and_run(host, ".sheepdog/1", {"run": b"echo never"}, "run")
        finally:
            (home / ".sheepdog").unlink()

    @fault(40, "the connection breaks during the upload", promise="nothing of it is run")
    def test_half_an_archive_is_not_run(self, host: Host, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = upload._archive({"a": b"x" * 5000, "run": b"echo never"}, "run")
        for length in (0, 700, 3000, 512 + 5120):
            monkeypatch.setattr(upload, "_archive", lambda files, script, length=length: whole[:length])
            with pytest.raises(CommandFailed):
                upload_and_run(host, ".sheepdog/1", {"run": b""}, "run")
        assert [path for path in (home / ".sheepdog" / "1").iterdir() if path.name.startswith(".")] == []


@fault(47, "a login shell of another kind", promise="commands work through all of them")
@pytest.mark.parametrize("shell", SHELLS)
def test_upload_through_every_login_shell(shell: str, tmp_path: Path) -> None:
    class Shell:
        """Does what sshd does with a command."""

        name = shell

        def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
            line = shlex.join(command)
            assert not set("\n!") & set(line)
            return LocalHost().run([shell, "-c", line], input, timeout)

    files = {"run": b"cat secret", "secret": b"\0\n!"}
    assert upload_and_run(Shell(), "! it's/$x `y`", files, "run") == b"\n\0\n!"
    assert (tmp_path / "! it's" / "$x `y`" / "secret").exists()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../x", "-x", "a b", "a\nb"], ids=repr)
def test_names_that_are_not_uploaded(name: str) -> None:
    with pytest.raises(ValueError, match="not a file name to upload"):
        upload_and_run(LocalHost(), "x/y", {name: b"", "run": b""}, "run")


@pytest.mark.parametrize("place", ["", ".", "/", "~/", "a\nb", "a\0b"], ids=repr)
def test_directories_that_are_not_uploaded_to(place: str) -> None:
    with pytest.raises(ValueError, match="not a directory"):
        upload_and_run(LocalHost(), place, {"run": b""}, "run")


def test_a_script_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="'run' is not among the files"):
        upload_and_run(LocalHost(), "x/y", {"a": b""}, "run")


def test_marks() -> None:
    noise = b"Welcome!\nsheepdog is here\n sheepdog:no x\nnot sheepdog:no x\n\xff\n"
    output = noise + b"\nsheepdog:job 12\nsheepdog:dir /home/a b\r\nsheepdog:done\nsheepdog:empty \nsheepdog:job 13"
    assert marks(output) == {"job": "13", "dir": "/home/a b", "done": "", "empty": ""}
    assert marks(b"") == {}


class TestLocalHost:
    def test_commands_begin_in_the_home_directory(self, tmp_path: Path) -> None:
        assert LocalHost().run(["pwd"]).decode() == f"{tmp_path}\n"

    def test_commands_are_away_from_the_terminal(self) -> None:
        ids = "import os; print(os.getsid(0) == os.getpid())"
        assert LocalHost().run([sys.executable, "-c", ids]) == b"True\n"

    @fault(42, "a command that hangs", promise="it is ended in time, with all that it started")
    def test_a_late_command_is_ended_with_its_children(self, tmp_path: Path) -> None:
        with pytest.raises(HostError):
            LocalHost().run(["sh", "-c", "sleep 1000 & echo $! > pid; wait"], timeout=0.5)
        child = int((tmp_path / "pid").read_text())

        def ended() -> bool:
            try:
                os.kill(child, 0)
            except ProcessLookupError:
                return True
            found = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, check=False)
            return found.stdout[:1] in (b"", b"Z")

        eventually(ended)

    def test_a_signal(self) -> None:
        with pytest.raises(CommandFailed) as caught:
            LocalHost().run(["sh", "-c", "kill -9 $$"])
        assert caught.value.status == 128 + 9

    def test_a_file_that_is_no_program(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("")
        with pytest.raises(CommandFailed, match="Permission denied") as caught:
            LocalHost().run([str(tmp_path / "data")])
        assert caught.value.status == 126

    def test_no_home_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "none"))
        with pytest.raises(HostError, match=r"cannot use the home directory .*none: No such file"):
            LocalHost().run(["true"])


Far = Callable[..., SSHHost]


class TestConnection:
    def test_one_login_for_many_commands(self, sshd: Sshd, far: Far) -> None:
        before = sshd.logins()
        for host in (far(), far(), far(interactive=True)):
            for _ in range(3):
                host.run(["true"])
        assert sshd.logins() == before + 1

    def test_one_login_for_many_threads(self, sshd: Sshd, far: Far) -> None:
        before = sshd.logins()
        threads = [threading.Thread(target=far().run, args=(["true"],)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sshd.logins() == before + 1

    def test_a_closed_connection_is_opened_again(self, sshd: Sshd, far: Far) -> None:
        before = sshd.logins()
        host = far()
        for _ in range(3):
            host.run(["true"])
            host.close()
            assert not host._socket.exists()
        host.close()
        assert sshd.logins() == before + 3

    @fault(45, "the shared SSH connection is killed", promise="the next command opens another")
    def test_a_killed_master_is_replaced(self, sshd: Sshd, far: Far) -> None:
        host = far()
        host.run(["true"])
        before = sshd.logins()
        os.kill(master(host), signal.SIGKILL)
        eventually(lambda: not host._control("check"))
        assert host._socket.exists()
        assert host.run(["echo", "back"]) == b"back\n"
        assert sshd.logins() == before + 1

    @fault(40, "the connection breaks during a command", promise="an error of its own: the command may have run")
    def test_a_connection_lost_during_a_command(self, sshd: Sshd, far: Far, tmp_path: Path) -> None:
        host = far()
        host.run(["true"])
        pid = master(host)

        def kill() -> None:
            eventually((tmp_path / "pid").exists)
            os.kill(pid, signal.SIGKILL)

        before = sshd.logins()
        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(HostError, match=r"connection was lost while running .*; it may have run: ") as caught:
            host.run(sleeping(tmp_path / "pid"))
        thread.join()
        end(tmp_path / "pid")
        assert not isinstance(caught.value, CommandFailed)
        assert sshd.logins() == before  # so it was not repeated

    def test_the_control_directory_is_private(self, far: Far, directory: Path) -> None:
        host = far(port=1)
        host.run(["true"])
        assert mode(directory / "sheepdog") == 0o700
        assert {mode(path) for path in (directory / "sheepdog").glob("*.conf")} == {0o600}
        assert stat.S_ISSOCK(host._socket.stat().st_mode)

    def test_a_vanished_control_directory(self, far: Far, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        host = far()
        other = directory / "run"
        other.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(other))
        host.run(["true"])
        pid = master(host)
        shutil.rmtree(other)  # as at the end of a login session
        try:
            assert host.run(["echo", "back"]) == b"back\n"
        finally:
            os.kill(pid, signal.SIGTERM)

    def test_what_the_user_says_in_the_configuration_does_not_hinder(self, sshd: Sshd, far: Far) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            hindrance = f"""
                RemoteCommand tmux attach
                RequestTTY force
                LocalForward {port} 127.0.0.1:9
                ExitOnForwardFailure yes
                ControlMaster auto
                ControlPath none
                ForwardX11 yes
                LogLevel QUIET
            """
            host = far(config_file=sshd.client("hindrance", hindrance))
            data = bytes(range(256))
            assert host.run(["cat"], input=data) == data

    def test_proxyjump(self, sshd: Sshd, far: Far) -> None:
        before = sshd.logins()
        config = sshd.client("jump", f"ProxyJump {getpass.getuser()}@gate")
        gate = f"Host gate\nHostName 127.0.0.1\nPort {sshd.port}\nIdentityFile {sshd.directory}/user_key\n"
        Path(config).write_text(gate + Path(config).read_text())
        host = far(config_file=config, port=1)
        assert host.run(["echo", "over"]) + host.run(["echo", "there"]) == b"over\nthere\n"
        assert sshd.logins() == before + 2

    def test_a_passphrase_is_asked_for_once(self, sshd: Sshd, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = sshd.directory / "asked"
        ask = sshd.directory / "ask"
        ask.write_text(f"#!/bin/sh\necho asked >> {asked}\necho baa baa\n")
        ask.chmod(0o700)
        monkeypatch.setenv("SSH_ASKPASS", str(ask))
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
        config = locked(sshd)
        with pytest.raises(HostError, match=r"Permission denied .*cannot ask for a password"):
            far(config_file=config, interactive=False).run(["true"])
        assert not asked.exists()
        host = far(config_file=config, interactive=True)
        host.run(["true"])
        host.run(["true"])
        assert asked.read_text() == "asked\n"
        assert far(config_file=config, interactive=False).run(["echo", "shared"]) == b"shared\n"

    def test_a_passphrase_is_asked_for_on_the_terminal(self, sshd: Sshd, far: Far, tmp_path: Path) -> None:
        config = locked(sshd)
        program = f"""
import fcntl, sys, termios
from sheepdog.deployment import SSHHost
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
print(SSHHost("far", config_file={config!r}).run(["echo", "we are in"]))
"""
        ours, theirs = os.openpty()
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
            )
        finally:
            os.close(theirs)
        try:
            said = b""
            while b"passphrase" not in said:
                said += os.read(ours, 1000)
            os.write(ours, b"baa baa\n")
            while b"we are in" not in said:
                said += os.read(ours, 1000)
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        before = sshd.logins()  # the master lives on without that terminal
        assert far(config_file=config, interactive=False).run(["echo", "shared"]) == b"shared\n"
        assert sshd.logins() == before

    def test_a_full_connection(self, sshd: Sshd, far: Far, tmp_path: Path) -> None:
        host = far()
        host.run(["true"])
        (tmp_path / "begun").mkdir()
        command = ["sh", "-c", 'touch "$1/begun/$$"; until [ -e "$1/end" ]; do sleep 0.1; done', "sh", str(tmp_path)]
        threads = [threading.Thread(target=host.run, args=(command,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: len(list((tmp_path / "begun").iterdir())) == 10)
            before = sshd.logins()
            with pytest.raises(HostError, match=r"`true` was not begun on far: .*refused.*too few sessions"):
                host.run(["true"])
            assert sshd.logins() == before
        finally:
            (tmp_path / "end").touch()
            for thread in threads:
                thread.join()


def locked(sshd: Sshd) -> str:
    """A configuration whose only key has a passphrase."""
    config = Path(sshd.client("locked", f"IdentityFile {sshd.directory}/locked_key"))
    config.write_text(config.read_text().replace(f"IdentityFile {sshd.directory}/user_key", ""))
    return str(config)


def master(host: SSHHost) -> int:
    argv = [*host._prefix, "-O", "check", host.name]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    return int(said.partition("pid=")[2].partition(")")[0])


class TestFailures:
    def test_unknown_host(self, sshd: Sshd, far: Far) -> None:
        config = sshd.client("unknown", "HostName no-such-sheep.invalid")
        with pytest.raises(
            HostError, match=r"cannot log in to far: .*Could not resolve.*network or VPN.* ssh far true"
        ):
            far(config_file=config).run(["true"])

    @fault(47, "a host without sshd", promise="an error that names the host and says why")
    def test_nobody_listens(self, sshd: Sshd, far: Far) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        config = sshd.client("refused", f"Port {port}")
        with pytest.raises(HostError, match=r"Connection refused \(try: ssh -p 5 -l me far true\)"):
            far(config_file=config, port=5, user="me").run(["true"])

    @fault(47, "a key that is refused", promise="an error with ssh's words")
    def test_wrong_key(self, sshd: Sshd, far: Far) -> None:
        wrong = key(sshd.directory / "wrong_key")
        config = sshd.client("wrong", "")
        Path(config).write_text(Path(config).read_text().replace("user_key", wrong.name))
        with pytest.raises(HostError, match=r"Permission denied \(publickey\).*try: ssh far true"):
            far(config_file=config).run(["true"])

    @fault(47, "a host key that is not known", promise="it is never accepted by itself")
    @pytest.mark.parametrize("interactive", [False, True])
    def test_unknown_host_key(self, sshd: Sshd, far: Far, interactive: bool) -> None:
        text = "UserKnownHostsFile /dev/null\nStrictHostKeyChecking no"
        config = sshd.client("stranger", text)
        with pytest.raises(HostError, match=r"only machines in known_hosts .* ssh far true once"):
            far(config_file=config, interactive=interactive).run(["true"])

    @fault(47, "a host key that has changed", promise="an error with ssh's words")
    def test_changed_host_key(self, sshd: Sshd, far: Far) -> None:
        other = key(sshd.directory / "other_key").with_suffix(".pub").read_text()
        (sshd.directory / "changed").write_text(f"[127.0.0.1]:{sshd.port} {other}")
        config = sshd.client("changed", f"UserKnownHostsFile {sshd.directory}/changed")
        with pytest.raises(HostError, match="ask its administrators"):
            far(config_file=config).run(["true"])

    @fault(
        (42, 47), "a host that does not answer", promise="the command is given up in time, with an error that says so"
    )
    def test_a_host_that_does_not_answer(self, sshd: Sshd, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deployment, "LOGIN_TIMEOUT", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            config = sshd.client("silent", f"Port {silent.getsockname()[1]}")
            with pytest.raises(HostError, match=r"cannot log in to far: it took longer than 0.5 s"):
                far(config_file=config).run(["true"])

    def test_a_bad_configuration(self, sshd: Sshd, far: Far) -> None:
        with pytest.raises(HostError, match=r"ssh refuses its configuration: .*nosuchoption"):
            far(config_file=sshd.client("bad", "NoSuchOption yes")).run(["true"])

    def test_no_ssh(self, far: Far, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(HostError, match=r"cannot start ssh: No such file or directory .is OpenSSH"):
            far().run(["true"])

    def test_a_status_of_255_is_taken_for_a_lost_connection(self, far: Far) -> None:
        with pytest.raises(HostError, match="may have run"):
            far().run(["sh", "-c", "exit 255"])

    def test_no_directory_for_sockets(self, far: Far, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(sshd.log))
        long = sshd.directory / ("x" * 80)
        long.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(long))
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        with pytest.raises(
            HostError, match=r"cannot be made .Not a directory.; .*too long a name .set XDG_RUNTIME_DIR"
        ):
            far().run(["true"])

    def test_a_directory_for_sockets_that_is_not_ours_alone(self, directory: Path) -> None:
        with tempfile.TemporaryDirectory() as name:
            made = Path(name)
            (made / "file").write_text("")
            (made / "link").symlink_to(directory)
            (made / "open").mkdir()
            (made / "open").chmod(0o750)
            faults = {path.name: deployment._make_private(path, False) for path in made.iterdir()}
            assert deployment._make_private(made / "new", False) is None
        assert faults["open"] == "is open to others (chmod 700 it)"
        assert faults["link"] == "is not a directory"
        assert faults["file"] == "cannot be made (File exists)"
        if os.getuid() != 0:
            assert deployment._make_private(Path("/"), False) == "belongs to somebody else"


class TestConfiguration:
    def values(self, host: SSHHost) -> dict[str, list[str]]:
        host._prefix = host._find_prefix()
        said = subprocess.run([*host._prefix, "-G", "--", host.name], capture_output=True, text=True, check=True).stdout
        values: dict[str, list[str]] = {}
        for line in said.splitlines():
            name, _, value = line.partition(" ")
            values.setdefault(name, []).append(value)
        return values

    def test_the_users_configuration_wins(self, sshd: Sshd, far: Far, tmp_path: Path) -> None:
        mine = key(tmp_path / "100% mine")
        (tmp_path / ".ssh").mkdir()
        usual = key(tmp_path / ".ssh" / "id_rsa")
        host = far(port=4242, user="shepherd", keyfile="~/100% mine")
        values = self.values(host)
        assert values["port"] == [str(sshd.port)]
        assert values["user"] == [getpass.getuser()]
        keys = [sshd.directory / "user_key", str(mine).replace("%", "%%"), usual]
        assert values["identityfile"] == [str(path) for path in keys]
        assert host.run(["true"]) == b""

    def test_without_a_word_from_the_user_ours_count(self, far: Far, tmp_path: Path) -> None:
        values = self.values(far("Meadow", port=4242, user="DOM\\me", config_file=None))
        assert (values["port"], values["user"]) == (["4242"], ["DOM\\me"])

    def test_a_key_logs_in(self, sshd: Sshd, far: Far) -> None:
        config = sshd.client("nokey", "")
        Path(config).write_text(Path(config).read_text().replace(f"IdentityFile {sshd.directory}/user_key", ""))
        assert far(config_file=config, keyfile=str(sshd.directory / "user_key")).run(["echo", "in"]) == b"in\n"

    def test_the_users_own_file_is_read(self, sshd: Sshd, far: Far, tmp_path: Path) -> None:
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text("Host far\nPort 77\n")
        values = self.values(far(config_file=None, port=5, user="me"))
        assert (values["port"], values["user"]) == (["77"], ["me"])

    def test_a_missing_key(self, far: Far) -> None:
        with pytest.raises(ConfigError, match=r"ssh_keyfile: there is no file .*none"):
            far(keyfile="~/none").run(["true"])

    def test_the_text(self) -> None:
        assert ssh_config("me@head", ["/a [b]/c"], 22, "me", ["/k"]) == (
            'Include "/a [[]b]/c"\nMatch originalhost "head"\n    Port 22\n    User "me"\n    IdentityFile "/k"\n'
        )

    @pytest.mark.parametrize("bad", ["a\nProxyCommand x", 'a"b', "a\0"], ids=repr)
    def test_values_that_cannot_be_quoted(self, bad: str) -> None:
        with pytest.raises(ConfigError, match="ssh_user"):
            ssh_config("head", [], None, bad, [])
        with pytest.raises(ConfigError, match="ssh_keyfile"):
            ssh_config("head", [], None, None, [bad])

    @fault("injection", "host names that are options or hold a command", promise="they are refused")
    @pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "-x@head", "me@-x", "a b", "a\nb", "me@", "a*", "a;b"])
    def test_names_that_are_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match="host: "):
            SSHHost(name)

    @pytest.mark.parametrize(
        "name", ["head", "head.example.org", "me@head_1", "10.0.0.1", "::1", "fe80::1%eth0", "schäfer"]
    )
    def test_names_that_are_taken(self, name: str) -> None:
        assert SSHHost(name).name == name


@fault(47, "a login shell that prints", promise="the answer is told from the noise")
def test_noise_from_the_login_shell(sshd: Sshd, far: Far) -> None:
    if not os.environ.get("SHELL", "").endswith("bash"):
        pytest.skip("the login shell is not bash")
    rc = sshd.directory / "home" / ".bashrc"
    rc.write_text("echo sheepdog is here; printf 'no end of line'; mesg n; cd /")
    try:
        assert b"no end of line" in far().run(["true"])
        output = upload_and_run(far(), ".sheepdog/1", {"run": b"echo sheepdog:job 12"}, "run")
        assert marks(output) == {"job": "12"}
        assert (sshd.directory / "home" / ".sheepdog" / "1" / "run").exists()
    finally:
        rc.unlink()
        shutil.rmtree(sshd.directory / "home" / ".sheepdog", ignore_errors=True)
