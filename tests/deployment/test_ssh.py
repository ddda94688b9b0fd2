"""What only ssh can do wrong, with a real sshd."""

import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sheepdog.deployment import SSHHost, ssh
from sheepdog.errors import CommandFailed, ConfigError, HostError
from tests.deployment.sshd import Far, Sshd, end, key, locked, master, mode, sleeping
from tests.faults import fault
from tests.waiting import until


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
        until(lambda: not host._control("check"), "it is dead")
        assert host._socket.exists()
        assert host.run(["echo", "back"]) == b"back\n"
        assert sshd.logins() == before + 1

    @fault(40, "the connection breaks during a command", promise="an error of its own: the command may have run")
    def test_a_connection_lost_during_a_command(self, sshd: Sshd, far: Far, tmp_path: Path) -> None:
        host = far()
        host.run(["true"])
        pid = master(host)

        def kill() -> None:
            until((tmp_path / "pid").exists, "the command runs")
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
            until(lambda: len(list((tmp_path / "begun").iterdir())) == 10, "all have begun")
            before = sshd.logins()
            with pytest.raises(HostError, match=r"`true` was not begun on far: .*refused.*too few sessions"):
                host.run(["true"])
            assert sshd.logins() == before
        finally:
            (tmp_path / "end").touch()
            for thread in threads:
                thread.join()


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
        text = f"UserKnownHostsFile {sshd.directory}/nobody\nStrictHostKeyChecking no"
        config = sshd.client("stranger", text)
        with pytest.raises(HostError, match=r"only machines in known_hosts .* ssh far true once"):
            far(config_file=config, interactive=interactive).run(["true"])

    @fault(47, "a configuration that keeps no host keys", promise="advice that can help")
    def test_known_hosts_that_keep_nothing(self, sshd: Sshd, far: Far) -> None:
        config = sshd.client("forgetful", "UserKnownHostsFile /dev/null")
        with pytest.raises(HostError, match=r"UserKnownHostsFile /dev/null .*give it a file .*then try: ssh far true"):
            far(config_file=config).run(["true"])

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
        monkeypatch.setattr(ssh, "LOGIN_TIMEOUT", 0.5)
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
