"""A machine we can run commands on: this one, or one reached by the user's own ssh.

    run() ── ssh (one per command) ──┐
    run() ── ssh (one per command) ──┼── control socket ── master ssh ══ one login ══ sshd
    run() ── ssh (one per command) ──┘

The first command starts the master, which may ask the user for a password or a second factor. All others go
through it and ask nothing. It ends when it was not used for ten minutes, or with close().
"""

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shlex
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NoReturn, Protocol

from ..errors import CommandFailed, ConfigError, ConnectionLost, HostError

IDLE = 600  # seconds after which a master that nobody uses ends
LOGIN_TIMEOUT = 60.0
LOGIN_TIMEOUT_INTERACTIVE = 180.0  # somebody types; sshd itself gives up after 120 s
SSH_FAILED = 255

# A socket's path has at most 103 bytes (macOS). ssh binds it as PATH.0123456789abcdef first.
_DIRECTORY_MAX = 103 - len("/0123456789abcdef.0123456789abcdef")

# Beside a missing or full master, ssh would open a connection of its own and ask the user again. With this it cannot,
# and its words tell that the command was not begun.
_NO_SESSION = "sheepdog: no session on the shared connection"
_SESSION = ["-o", "ControlMaster=no", "-o", f"ProxyCommand=sh -c 'echo {_NO_SESSION} >&2'", "-o", "BatchMode=yes"]

# What a user may have in ~/.ssh/config for logging in by hand, and what a command of ours cannot have.
_QUIET = ["-T", "-a", "-x", "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR"]

_MASTER = ["-o", "ControlMaster=yes", "-o", f"ControlPersist={IDLE}", "-N", "-f"]
_LINK = [
    *("-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
]

# What ssh tries when nothing names an IdentityFile; one that is named replaces them all.
_USUAL_KEYS = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"]

_ADVICE = [
    ("IDENTIFICATION HAS CHANGED", "its key is not the one in known_hosts: ask its administrators why, then {try_}"),
    ("Host key verification failed", "only machines in known_hosts are connected to: {try_} once, compare the key"),
    ("Could not resolve hostname", "check the host's name, your network or VPN, and {try_}"),
    ("Too many authentication failures", "ssh offers too many keys: name the right one in ~/.ssh/config, and {try_}"),
    ("Permission denied", "check the user name and the keys (ssh-add -l){asking}, and {try_}"),
    ("Session open refused", "it allows too few sessions at once: try again with fewer"),
]


class Host(Protocol):
    """A machine we can run commands on."""

    name: str

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        """Run a command in the home directory and return what it wrote to its standard output.

        Raises CommandFailed if it ends with another status than 0, HostError if the machine cannot be reached or
        the command takes longer than timeout (seconds).
        """


class LocalHost:
    """This machine. Ctrl-C in the terminal does not reach the commands."""

    name = "this machine"

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        home = Path.home()
        try:
            done = _execute(command, input, timeout, f"{_short(command)} on {self.name}", home)
        except OSError as error:
            if str(error.filename) == str(home):
                raise HostError(f"cannot use the home directory {home}: {error.strerror}") from error
            status = 127 if isinstance(error, FileNotFoundError) else 126  # a shell's
            words = f"{error.filename}: {error.strerror}".encode()
            done = subprocess.CompletedProcess(command, status, b"", words)
        return _output(done, _short(command), self.name)


class SSHHost:
    """A machine reached by OpenSSH's client, with the user's ~/.ssh/config, agent and known_hosts.

    name is what one would say to ssh. What ~/.ssh/config says about it wins over port, user and keyfile; keyfile is
    tried besides the usual keys. Without interactive, ssh never asks anything: for processes without a terminal.
    config_file is read in place of ~/.ssh/config.

    A status of 255 is ssh's own failure, so a command that itself ends with 255, or is killed by a signal, looks like a
    lost connection. Where the login shell is csh, a command must not hold newlines or "!": see upload_and_run.
    sshd allows 10 sessions on a connection: run at most 8 commands at once.
    """

    def __init__(
        self,
        name: str,
        port: int | None = None,
        user: str | None = None,
        keyfile: str | None = None,
        interactive: bool = True,
        config_file: str | None = None,
    ) -> None:
        if not re.fullmatch(r"([^\s@\"'-][^\s@\"']*@)?[\w:\[][\w.:%\[\]-]*", name):
            raise ConfigError(f"host: {name!r} is not a name that ssh can connect to")
        self.name = name
        self.port = port
        self.user = user
        self.keyfile = keyfile
        self.interactive = interactive
        self.config_file = config_file
        self._prefix: list[str] = []

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        if not command:
            raise ValueError("an empty command")  # ssh would start a login shell
        what = _short(command)
        if not self._seems_connected():
            self._connect()
        done = self._session(command, input, timeout)
        if _not_begun(done):
            self._connect()
            done = self._session(command, input, timeout)
        if done.returncode == SSH_FAILED and _NO_SESSION in text_of(done.stderr):
            self._fail(f"{what} was not begun on {self.name}", done.stderr)
        if done.returncode == SSH_FAILED:
            text = f"the connection was lost while running {what} on {self.name}; it may have run"
            raise ConnectionLost(f"{text}: {_end(text_of(done.stderr))}")
        return _output(done, what, self.name)

    def close(self) -> None:
        """End the shared connection, for everyone who uses it."""
        if not self._seems_connected():
            return
        with self._lock():
            ends = self._control("exit")
            deadline = time.monotonic() + 5
            while ends and self._socket.exists() and time.monotonic() < deadline:
                time.sleep(0.01)  # it removes its socket after it answered; that must not be its successor's
            self._socket.unlink(missing_ok=True)

    def _session(self, command: Sequence[str], input: bytes, timeout: float) -> subprocess.CompletedProcess[bytes]:
        argv = [*self._prefix, *_SESSION, *_QUIET, "--", self.name, shlex.join(command)]
        return self._ssh(argv, input, timeout, f"{_short(command)} on {self.name}")

    def _seems_connected(self) -> bool:
        """Look for the files. The directory may vanish with the user's login session."""
        return bool(self._prefix) and all(Path(path).exists() for path in self._prefix[2::2])

    def _connect(self) -> None:
        """Start the master, unless somebody just did."""
        self._prefix = self._find_prefix()
        with self._lock():
            if not self._control("check"):
                self._socket.unlink(missing_ok=True)  # a killed master leaves it, and the next would not listen
                self._log_in()

    def _log_in(self) -> None:
        argv = [*self._prefix, *_MASTER, *_QUIET, *_LINK]
        argv += [] if self.interactive else ["-o", "BatchMode=yes"]
        environment = os.environ | ({} if self.interactive else {"SSH_ASKPASS_REQUIRE": "never"})
        timeout = LOGIN_TIMEOUT_INTERACTIVE if self.interactive else LOGIN_TIMEOUT
        # ssh -f keeps stderr open in the background: the end of a pipe would never come. To ask on the terminal, it
        # has to stay in our session.
        with tempfile.TemporaryFile() as words:
            with subprocess.Popen(
                [*argv, "--", self.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env=environment,
                start_new_session=not self.interactive,
            ) as process:
                try:
                    status = process.wait(timeout)
                except BaseException as error:
                    process.terminate()
                    if isinstance(error, subprocess.TimeoutExpired):
                        self._fail(f"cannot log in to {self.name}: it took longer than {timeout:g} s", b"")
                    raise
            words.seek(0)
            if status != 0:
                self._fail(f"cannot log in to {self.name}", words.read())

    def _find_prefix(self) -> list[str]:
        """Return what every ssh begins with: `ssh [-F configuration] -S socket`."""
        directory = _control_directory()
        prefix = ["ssh"]
        if any(value is not None for value in (self.port, self.user, self.keyfile, self.config_file)):
            prefix += ["-F", str(_write_once(directory, self._configuration()))]
        # Not ssh's own %C: since 9.6 it depends on ProxyJump, which is off for the commands.
        done = self._ssh([*prefix, "-G", "--", self.name], b"", 30, f"reading the configuration of {self.name}")
        if done.returncode != 0:
            self._fail("ssh refuses its configuration", done.stderr)
        identity = hashlib.sha256(os.uname().nodename.encode() + b"\0" + done.stdout).hexdigest()[:16]
        return [*prefix, "-S", str(directory / identity)]

    def _configuration(self) -> str:
        theirs = Path(self.config_file or "~/.ssh/config").expanduser().absolute()
        included = [str(path) for path in (theirs, Path("/etc/ssh/ssh_config")) if path.exists()]
        keys = []
        if self.keyfile is not None:
            keyfile = Path(self.keyfile).expanduser().absolute()
            if not keyfile.exists():
                raise ConfigError(f"ssh_keyfile: there is no file {keyfile}")
            keys = [keyfile, *filter(Path.exists, (Path.home() / ".ssh" / name for name in _USUAL_KEYS))]
        return ssh_config(self.name, included, self.port, self.user, [str(key) for key in keys])

    @property
    def _socket(self) -> Path:
        return Path(self._prefix[-1])

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other threads and processes from starting or ending this master."""
        with open(self._socket.with_suffix(".lock"), "w", opener=_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _control(self, verb: str) -> bool:
        """Say something to the master; return if it is there."""
        try:
            return self._ssh([*self._prefix, "-O", verb, "--", self.name], b"", 10, verb).returncode == 0
        except HostError:
            return False

    def _ssh(self, argv: Sequence[str], input: bytes, timeout: float, what: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return _execute(argv, input, timeout, what)
        except OSError as error:
            raise HostError(
                f"cannot start ssh: {error.strerror} (is OpenSSH's client on this machine's PATH?)"
            ) from error

    def _fail(self, what: str, errors: bytes) -> NoReturn:
        port = f"-p {self.port} " if self.port is not None else ""
        user = f"-l {shlex.quote(self.user)} " if self.user is not None else ""
        key = f"-i {shlex.quote(self.keyfile)} " if self.keyfile is not None else ""
        asking = "" if self.interactive else "; here ssh cannot ask for a password or passphrase"
        words = text_of(errors).partition(_NO_SESSION)[0]
        advice = next((advice for sign, advice in _ADVICE if sign in words), "{try_}")
        advice = advice.format(try_=f"try: ssh {port}{user}{key}{shlex.quote(self.name)} true", asking=asking)
        raise HostError(f"{what}: {_end(words)} ({advice})")


def ssh_config(name: str, included: Sequence[str], port: int | None, user: str | None, keyfiles: Sequence[str]) -> str:
    """Write a configuration for ssh in which the included files win: ssh takes the first value it finds."""
    lines = [f"Include {_quoted('ssh_config', glob.escape(path))}" for path in included]
    # Not `Host *`: this configuration also counts for the hosts on the way (ProxyJump).
    lines.append(f"Match originalhost {_quoted('host', name.rpartition('@')[2])}")
    if port is not None:
        lines.append(f"    Port {port:d}")
    if user is not None:
        lines.append(f"    User {_quoted('ssh_user', user)}")
    for keyfile in keyfiles:
        lines.append(f"    IdentityFile {_quoted('ssh_keyfile', keyfile.replace('%', '%%'))}")
    return "\n".join(lines) + "\n"


def _quoted(key: str, value: str) -> str:
    # What ssh makes of a backslash before a quote or another one differs between its versions; ${} is a variable to it.
    if re.search(r"""[\n\r\0"]|\\(?:[\\'"]|\Z)|\$\{""", value):
        raise ConfigError(f"{key}: {value!r} has characters that ssh's configuration cannot hold")
    return f'"{value}"'


def _control_directory() -> Path:
    """Make and check the private directory of the control sockets."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    choices = [Path(runtime, "sheepdog")] if runtime else []
    choices.append(Path.home() / ".cache" / "sheepdog" / "ssh")
    choices.append(Path(tempfile.gettempdir(), f"sheepdog-{os.getuid()}"))
    faults = []
    for choice in choices:
        fault = _make_private(choice, parents=choice is choices[-2])
        if fault is None:
            return choice
        faults.append(f"{choice} {fault}")
    raise HostError(
        f"no private directory for ssh's control sockets: {'; '.join(faults)} "
        "(set XDG_RUNTIME_DIR to a directory of your own with a short name)"
    )


def _make_private(directory: Path, parents: bool) -> str | None:
    """Make a directory that is ours alone, and say what is wrong if it cannot be."""
    if len(os.fsencode(directory)) > _DIRECTORY_MAX:
        return "is too long a name"
    try:
        missing = takewhile(lambda parent: not parent.exists(), directory.parents) if parents else ()
        for each in [*reversed(list(missing)), directory]:  # mkdir's parents=True would leave them to the umask
            each.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != os.getuid():
        return "belongs to somebody else"
    if found.st_mode & 0o077:
        return "is open to others (chmod 700 it)"
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_once(directory: Path, text: str) -> Path:
    """Write a file named after its content, readable by nobody else."""
    path = directory / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)
    return path


def _execute(
    argv: Sequence[str], input: bytes, timeout: float, what: str, directory: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of this machine, away from the terminal; if it is not done in time, end it with its children."""
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=directory, start_new_session=True) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise HostError(f"{what} took longer than {timeout:g} s and was given up") from None
            raise
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)


def _output(done: subprocess.CompletedProcess[bytes], what: str, host: str) -> bytes:
    if done.returncode != 0:
        status = done.returncode if done.returncode > 0 else 128 - done.returncode  # a signal, as shells say it
        raise command_failed(what, host, status, done.stdout, done.stderr)
    return done.stdout


def command_failed(what: str, host: str, status: int, output: bytes, errors: bytes) -> CommandFailed:
    words = _end(text_of(errors))
    return CommandFailed(f"{what} on {host} failed with status {status}: {words}", status, output, errors)


def _not_begun(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Is there no master? If it was there and broke off (mux_client...: ...), the command may have run."""
    words = text_of(done.stderr)
    return done.returncode == SSH_FAILED and _NO_SESSION in words and "mux_client" not in words


def _short(command: Sequence[str]) -> str:
    text = shlex.join(command)
    return f"`{text}`" if len(text) <= 120 else f"`{text[:110]}...`"


def text_of(data: bytes) -> str:
    return data.decode(errors="replace")


def _end(words: str) -> str:
    """The end of what a program wrote to stderr, where the reason is."""
    return words.strip()[-1000:] or "it said nothing"


def make_host(
    name: str | None,
    port: int | None = None,
    user: str | None = None,
    keyfile: str | None = None,
    interactive: bool = True,
) -> Host:
    """Give the host of that name; without a name, this machine."""
    return LocalHost() if name is None else SSHHost(name, port, user, keyfile, interactive)
