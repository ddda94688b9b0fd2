"""The contract that every kind of host keeps. A new kind is one more entry in KINDS."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sheepdog.deployment import Host, LocalHost, upload
from sheepdog.deployment.upload import marks, upload_and_run
from sheepdog.errors import CommandFailed, HostError
from tests.deployment.sshd import end, mode, sleeping
from tests.faults import fault

KINDS: dict[str, Callable[[pytest.FixtureRequest], tuple[Host, Path]]] = {
    "local": lambda request: (LocalHost(), request.getfixturevalue("tmp_path")),
    "ssh": lambda request: (request.getfixturevalue("far")(), request.getfixturevalue("directory") / "home"),
}
"""How to make a host of each kind, and where the home directory there is on this machine."""

NASTY = ["two words", "", "'", '"', "a\nb", "$HOME", "`id`", "\\", "*", "!", "~", "-n", ";&|<>", "äöü 🐑", "a'b\"c\\'"]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> tuple[Host, Path]:
    return KINDS[request.param](request)


@pytest.fixture
def host(made: tuple[Host, Path]) -> Host:
    return made[0]


@pytest.fixture
def home(made: tuple[Host, Path]) -> Iterator[Path]:
    yield made[1]
    shutil.rmtree(made[1] / ".sheepdog", ignore_errors=True)


@pytest.mark.slow
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

    @pytest.mark.parametrize("status", [1, 2, 100, 254, 255])
    def test_a_status_is_an_error(self, host: Host, status: int) -> None:
        script = f"echo out; echo no sheep here >&2; exit {status}"
        with pytest.raises(CommandFailed) as caught:
            host.run(["sh", "-c", script])
        assert caught.value.status == status
        assert caught.value.output == b"out\n"
        assert caught.value.errors == b"no sheep here\n"
        assert str(caught.value) == f"`sh -c '{script}'` on {host.name} failed with status {status}: no sheep here"

    def test_a_signal_is_a_status(self, host: Host) -> None:
        with pytest.raises(CommandFailed) as caught:
            host.run(["sh", "-c", "kill -9 $$"])
        assert caught.value.status == 128 + 9

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
        assert output == files["data.bin"] + b"0077\n"
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
        assert upload_and_run(host, "~/.sheepdog/x y/", {"run": b"pwd"}, "run") == f"{job}\n".encode()
        assert (mode(job.parent), mode(job), mode(job / "run")) == (0o700, 0o700, 0o600)

    def test_upload_twice(self, host: Host, home: Path) -> None:
        for content in (b"echo one", b"echo one", b"echo two"):
            output = upload_and_run(host, ".sheepdog/1", {"run": content, "dash-": b""}, "run")
        assert output == b"two\n"
        assert sorted(path.name for path in (home / ".sheepdog" / "1").iterdir()) == ["dash-", "run"]

    def test_upload_to_an_absolute_directory(self, host: Host, home: Path) -> None:
        assert upload_and_run(host, f"{home}/.sheepdog/1", {"run": b"pwd"}, "run").decode() == f"{home}/.sheepdog/1\n"

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
