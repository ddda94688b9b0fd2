"""The frame around a command: what start-up files of a login shell can do to it, by a real sshd."""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sheepdog.deployment import frame
from sheepdog.deployment.upload import marks, upload_and_run
from sheepdog.errors import CommandFailed, HostError
from sheepdog.schedulers.detect import programs_on
from tests.deployment.sshd import Far, Sshd
from tests.faults import fault

SHELLS = [path for name in ("bash", "dash", "csh", "tcsh", "zsh", "mksh") if (path := shutil.which(name))]
TITLE = r"printf '\033]0;%s\007' head"
Write = Callable[[str], object]


@pytest.fixture
def start_up(sshd: Sshd) -> Iterator[Write]:
    """Write the file that the login shell reads."""
    if not pwd.getpwuid(os.getuid()).pw_shell.endswith("bash"):
        pytest.skip("the login shell is not bash")
    home = sshd.directory / "home"
    yield (home / ".bashrc").write_text
    for file in home.iterdir():
        if file.name != ".ssh":
            shutil.rmtree(file) if file.is_dir() else file.unlink()


# What came back


@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_runs_a_command_in_a_frame(shell: str) -> None:
    command = shlex.join(frame.framed(["sh", "-c", "cat; echo words >&2; exit 3"]))
    assert not set("\n!") & set(command)  # csh takes neither
    mark = frame.new_mark()
    input = frame.opening(mark) + b"\0\n\xff"
    done = subprocess.run([shell, "-c", command], input=input, capture_output=True, check=False)
    assert frame.answer(mark, done.stdout, done.stderr) == frame.Answer(b"\0\n\xff", b"words\n", True, 3)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_that_reads_the_mark_in_our_place_ends(shell: str, tmp_path: Path) -> None:
    input = frame.opening(frame.new_mark()) + b"mkdir made\n"
    subprocess.run([shell], input=input, cwd=tmp_path, capture_output=True, check=False)
    assert not list(tmp_path.iterdir())


BEGIN, END = b"\n7 begin 1 \t\r\xff\n", b"\n7 end 1 3\n"
ERRORS = b"\n7 begin 2 \t\r\xff\nno\n7 end 2 3\n"


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (b"", frame.Answer(b"", b"", False, None)),
        (b"Welcome!\n", frame.Answer(b"Welcome!\n", b"", False, None)),
        (b"\x1b]0;head\x07" + BEGIN + b"half", frame.Answer(b"half", b"", True, None)),
        (BEGIN + END, frame.Answer(b"", b"", True, 3)),
        (BEGIN + b"all\n7 end 1 ", frame.Answer(b"all\n7 end 1 ", b"", True, None)),
        (b"x\nsheepdog:disturbed\n", frame.Answer(b"x\nsheepdog:disturbed\n", b"", False, None, True)),
    ],
)
def test_what_is_in_a_frame(output: bytes, answer: frame.Answer) -> None:
    assert frame.answer(7, output, b"") == answer


def test_a_stream_is_known_wherever_it_comes() -> None:
    printed = b"x" + BEGIN + b"out" + END + b"bye"
    for pair in ((printed, ERRORS), (ERRORS, printed)):
        assert frame.answer(7, *pair) == frame.Answer(b"out", b"no", True, 3)
    assert frame.answer(7, printed, b"Warning\n") == frame.Answer(b"out", b"", True, 3)


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        (BEGIN + ERRORS + END, b""),
        (b"", BEGIN + ERRORS + END),
        (BEGIN + END, BEGIN + END),
        (BEGIN + ERRORS + END, ERRORS),
        (BEGIN + BEGIN + END + END, ERRORS),
        (b"", ERRORS),
        (BEGIN.replace(b"\n7", b"\n[head] 7") + END, ERRORS),
        (BEGIN.replace(b"\r", b"") + END, ERRORS),
    ],
)
def test_what_cannot_be_told_apart(output: bytes, errors: bytes) -> None:
    answer = frame.answer(7, output, errors)
    assert (answer.begun, answer.status, answer.redirected) == (True, None, True)


# Start-up files


@fault(47, "a login shell whose start-up files print", promise="the answer is told from the noise, byte for byte")
@pytest.mark.parametrize(
    "text",
    [
        "echo sheepdog is here; printf 'no end of line'; mesg n; cd /",
        TITLE,
        "trap 'echo bye; echo bye >&2' EXIT; echo Warning >&2",
        f"{TITLE}; trap '{TITLE.replace(chr(39), chr(34))}' EXIT DEBUG",
        "trap 'echo \"$BASH_COMMAND\"' DEBUG; set -xv",
    ],
)
def test_start_up_files_that_print(sshd: Sshd, far: Far, start_up: Write, text: str) -> None:
    start_up(f"{text}\n")
    host = far()
    assert host.run(["cat"], input=b"\0baa\n\n") == b"\0baa\n\n"
    assert host.run(["printf", "%s", "baa"]) == b"baa"
    with pytest.raises(CommandFailed) as caught:
        host.run(["sh", "-c", "echo no >&2; exit 3"])
    assert (caught.value.status, caught.value.errors) == (3, b"no\n")
    assert programs_on(host, ["sh", "no-such-sheep", "cat"]) == {"sh", "cat"}
    assert marks(upload_and_run(host, ".sheepdog/1", {"run": b"echo sheepdog:job 12"}, "run")) == {"job": "12"}


@fault(47, "a start-up file swaps the streams, or copies them", promise="each is known again, byte for byte")
@pytest.mark.parametrize(
    "text",
    [
        "exec 3>&1 1>&2 2>&3 3>&-",
        "exec > >(tee -a log)",
        "exec 2> >(tee -a log >&2)",
        "exec > >(tee -a log) 2> >(tee -a log >&2)",
    ],
)
def test_start_up_files_that_swap_or_copy_the_streams(far: Far, start_up: Write, text: str) -> None:
    start_up(f"{text}\n")
    host = far()
    content = bytes(range(256)) * 1000
    assert host.run(["cat"], input=content) == content
    with pytest.raises(CommandFailed) as caught:
        host.run(["sh", "-c", "echo out; echo no >&2; exit 3"])
    assert (caught.value.status, caught.value.output, caught.value.errors) == (3, b"out\n", b"no\n")
    assert marks(upload_and_run(host, ".sheepdog/1", {"run": b"echo sheepdog:job 12"}, "run")) == {"job": "12"}


def test_a_start_up_file_that_takes_the_words(far: Far, start_up: Write) -> None:
    start_up("exec 2>/dev/null\n")
    assert far().run(["cat"], input=b"baa") == b"baa"
    with pytest.raises(CommandFailed, match="status 3"):
        far().run(["sh", "-c", "echo no >&2; exit 3"])


@fault(
    47,
    "a start-up file sends both streams to one place, or through a program that changes them",
    promise="an error names the cause; nothing of it is taken for an answer",
)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        *[
            (text, "a start-up file there .* redirects the output, such as with `exec 2>&1`")
            for text in (
                "exec 2>&1",
                "exec 1>&2",
                "exec > >(tee -a log) 2>&1",
                "exec > >(tee /dev/stderr)",
                "exec >/dev/null",
                "exec >log",
                "exec > >(cat -v)",
                "exec > >(sed -u 's/^/[head] /')",
                "exec > >(tr -d '\\r')",
            )
        ],
        ("exec >/dev/null 2>&1", r"ended before, with status 0: .*redirects its output \(`exec >file`\)"),
        ("exec >&- 2>&-", r"redirects its output \(`exec >file`\)"),
    ],
)
def test_start_up_files_that_redirect(sshd: Sshd, far: Far, start_up: Write, text: str, why: str) -> None:
    start_up(f"{text}\n")
    host = far()
    for _ in range(2):
        with pytest.raises(HostError, match=why):
            host.run(["cat"], b"SECRET")
        with pytest.raises(HostError, match=why):
            upload_and_run(host, ".sheepdog/1", {"run": b"echo sheepdog:job 12; echo qsub >&2"}, "run")
    home = sshd.directory / "home"
    assert not (home / ".sheepdog").exists()
    if (home / "log").exists():
        assert b"SECRET" not in (home / "log").read_bytes()


@fault(47, "a start-up file begins to redirect the output", promise="what was answered so is no answer")
@pytest.mark.parametrize("text", ["exec 2>&1", "exec >/dev/null", "exec > >(cat -v)"])
def test_start_up_files_that_redirect_later(far: Far, start_up: Write, text: str) -> None:
    host = far()
    assert host.run(["cat"], b"baa\t") == b"baa\t"
    start_up(f"{text}\n")
    with pytest.raises(HostError, match="redirects the output"):
        host.run(["sh", "-c", "cat; echo words >&2"], b"baa\t")


@pytest.mark.slow
@fault(47, "a start-up file leaves a program in the background", promise="the end of a command is its own")
def test_a_start_up_file_that_leaves_a_program(far: Far, start_up: Write, tmp_path: Path) -> None:
    start_up(f"sleep 1000 &\necho $! >>{tmp_path}/pids\n")
    host = far()
    content = bytes(range(256)) * 10_000
    try:
        assert host.run(["cat"], content, timeout=120) == content
        with pytest.raises(CommandFailed) as caught:
            host.run(["sh", "-c", "echo out; echo no >&2; exit 3"], timeout=120)
        assert (caught.value.status, caught.value.output, caught.value.errors) == (3, b"out\n", b"no\n")
        for _ in range(10):  # sshd allows as many at once on a connection
            host.run(["true"], timeout=120)
        with pytest.raises(HostError, match="took longer"):
            host.run(["sleep", "20"], timeout=0.7)
    finally:
        for pid in (tmp_path / "pids").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@fault(47, "a login shell whose start-up files end with another status", promise="the command's own counts")
def test_a_start_up_file_that_changes_the_status(far: Far, start_up: Write) -> None:
    start_up("trap 'exit 5' EXIT\n")
    assert far().run(["true"]) == b""
    with pytest.raises(CommandFailed, match="status 1"):
        far().run(["false"])


@fault(
    47,
    "a start-up file reads standard input, or another shell takes it",
    promise="an error says so; nothing that was sent is run or given to others",
)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("read x", "a start-up file there .* reads standard input"),
        ("cat >read", "a start-up file there .* reads standard input"),
        ("head -c 1 >read", "a start-up file there .* reads standard input"),
        ("exec dash", "ended before, with status .*`exec`"),
        ("exec csh -f", "ended before, with status .*`exec`"),
        ("exit", "ended before, with status 0: it said nothing.*`exit`"),
        ("echo Maintenance; exit 1", "ended before, with status 1: Maintenance"),
        ("exec cat", "ended before, with status 0: exit "),
    ],
)
def test_start_up_files_that_take_the_input(sshd: Sshd, far: Far, start_up: Write, text: str, why: str) -> None:
    start_up(f"{text}\n")
    home = sshd.directory / "home"
    files = {"run": b"mkdir made", "mkdir": b"\nmkdir ~/junk\n", "secret": b"SECRET"}
    for _ in range(2):
        with pytest.raises(HostError, match=why):
            upload_and_run(far(), ".sheepdog/1", files, "run")
        with pytest.raises(HostError, match=why):
            far().run(["true"])
    assert {file.name for file in home.iterdir()} <= {".ssh", ".bashrc", "read"}
    if (home / "read").exists():
        assert b"SECRET" not in (home / "read").read_bytes()


@fault(47, "a start-up file begins to read standard input", promise="nothing that is sent later is run")
@pytest.mark.parametrize("text", ["read x", "exec dash", "exec csh -f", "cat >/dev/null", "head -c 700 >/dev/null"])
def test_start_up_files_that_take_it_later(sshd: Sshd, far: Far, start_up: Write, text: str) -> None:
    host = far()
    assert host.run(["echo", "baa"]) == b"baa\n"
    start_up(f"{text}\n")
    with pytest.raises(HostError):
        upload_and_run(host, ".sheepdog/1", {"run": b"mkdir ~/made", "a": b"\nmkdir ~/junk\n" * 200}, "run")
    assert {file.name for file in (sshd.directory / "home").iterdir()} == {".ssh", ".bashrc"}


def test_a_start_up_file_that_waits(far: Far, start_up: Write) -> None:
    start_up("sleep 20\n")
    with pytest.raises(HostError, match=r"took longer than 0.5 s .*a start-up file there .* waits for something"):
        far().run(["true"], timeout=0.5)
