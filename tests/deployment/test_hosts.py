"""This machine as a host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.deployment import LocalHost, SSHHost, make_host
from sheepdog.errors import CommandFailed, HostError
from tests.faults import fault
from tests.waiting import until


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

        until(ended, "its child has ended")

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


def test_a_name_makes_a_host() -> None:
    """Without one it is this machine."""
    assert isinstance(make_host(None), LocalHost)
    host = make_host("head", 22, "me", "key", interactive=False)
    assert isinstance(host, SSHHost)
    assert (host.name, host.port, host.user, host.keyfile, host.interactive) == ("head", 22, "me", "key", False)
