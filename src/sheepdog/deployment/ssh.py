"""A machine reached by the user's own ssh.

    run() ── ssh (one per command) ──┐
    run() ── ssh (one per command) ──┼── control socket ── master ssh ══ one login ══ sshd
    run() ── ssh (one per command) ──┘

The first command starts the master, which may ask the user for a password or a second factor. All others go
through it and ask nothing. It ends when it was not used for ten minutes, or with close(). Each goes through the login
shell there, whose start-up files may do anything: so each is in a frame, and its input waits for a first answer.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from ..errors import ConfigError, ConnectionLost, HostError
from ..values import account
from . import frame
from .commands import end_of, execute, output_of, short, text_of
from .control_directory import control_directory, private, write_once
from .session import Session
from .ssh_config import ssh_config

IDLE = 600  # seconds after which a master that nobody uses ends
LOGIN_TIMEOUT = 60.0
LOGIN_TIMEOUT_INTERACTIVE = 180.0  # somebody types; sshd itself gives up after 120 s
SSH_FAILED = 255
SILENT = "ssh says nothing more"

# Beside a missing or full master, ssh would open a connection of its own and ask the user again. With this it cannot,
# and its words tell that the command was not begun.
_NO_SESSION = "sheepdog: no session on the shared connection"
_LOST = "read from master failed"
_SESSION = ["-o", "ControlMaster=no", "-o", f"ProxyCommand=sh -c 'echo {_NO_SESSION} >&2'", "-o", "BatchMode=yes"]

# What a user may have in ~/.ssh/config for logging in by hand, and what a command of ours cannot have.
_QUIET = ["-T", "-a", "-x", "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes", "-o", "LogLevel=ERROR"]

_MASTER = ["-o", "ControlMaster=yes", "-o", f"ControlPersist={IDLE}", "-N", "-f"]
_LINK = [
    *("-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
]

_START_UP = "~/.bashrc, ~/.profile, ~/.zshenv, ~/.cshrc"

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


class SSHHost:
    """A machine reached by OpenSSH's client, with the user's ~/.ssh/config, agent and known_hosts.

    name is what one would say to ssh. What ~/.ssh/config says about it wins over port, user and keyfile; keyfile is
    tried besides the usual keys. Without interactive, ssh never asks anything: for processes without a terminal.
    config_file is read in place of ~/.ssh/config.

    Where the login shell is csh, a command must not hold newlines or "!": see upload_and_run.
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
        self._forgets = False  # whether no host's key is kept
        self._answers = False  # whether a command has come through the login shell

    def run(self, command: Sequence[str], input: bytes = b"", timeout: float = 60.0) -> bytes:
        if not command:
            raise ValueError("an empty command")  # ssh would start a login shell
        if input and not self._answers:  # a start-up file that reads it is to have none of it
            self.run(["true"])
        what = short(command)
        if not self._seems_connected():
            self._connect()
        mark = frame.new_mark()
        done = self._session(command, mark, input, timeout)
        if _not_begun(done):
            self._connect()
            done = self._session(command, mark, input, timeout)
        if done.returncode == SSH_FAILED and _NO_SESSION in text_of(done.stderr):
            self._fail(f"{what} was not begun on {self.name}", done.stderr)
        answer = frame.answer(mark, done.stdout, done.stderr)
        if answer.status is None:
            self._unanswered(what, done, answer)
        self._answers = True
        return output_of(
            subprocess.CompletedProcess(command, answer.status, answer.output, answer.errors), what, self.name
        )

    def open(self, command: Sequence[str], input: bytes, timeout: float = 60.0) -> Session:
        """Start a command that goes on, in a session of its own; return it when it has begun.

        It is given the input first. Raises HostError if it does not begin.
        """
        self.run(["true"])  # so that there is a connection, and start-up files let commands through
        mark = frame.new_mark()
        argv = [*self._prefix, *_SESSION, *_QUIET, "--", self.name, shlex.join(frame.framed(command))]
        session = Session(argv, self.name)
        try:
            session.begin(mark, input, timeout)
        except BaseException:
            session.close()
            raise
        return session

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

    def _session(
        self, command: Sequence[str], mark: int, input: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        argv = [*self._prefix, *_SESSION, *_QUIET, "--", self.name, shlex.join(frame.framed(command))]
        what = f"{short(command)} on {self.name}"
        try:
            # What a start-up file leaves in the background may hold the streams for ever.
            return self._ssh(argv, frame.opening(mark) + input, timeout, what, partial(frame.ended, mark))
        except HostError as error:
            if self._answers:
                raise
            text = f"if `ssh {self.name} true` takes as long, a start-up file there ({_START_UP}) waits for something"
            raise HostError(f"{error}; {text}") from error

    def _unanswered(self, what: str, done: subprocess.CompletedProcess[bytes], answer: frame.Answer) -> NoReturn:
        """Say why a command has no answer."""
        words = end_of(text_of(answer.errors) or text_of(answer.output)) or SILENT
        if answer.disturbed:
            raise HostError(
                f"{what} was not run on {self.name}: a start-up file there ({_START_UP}) reads standard input, such as "
                f"with `read`, or with an `ssh` without -n. Let it do so only if `[ -t 0 ]`"
            )
        if answer.redirected and done.returncode != SSH_FAILED:
            raise HostError(
                f"{what} was run on {self.name}, but its answer does not come back as it was: a start-up file there "
                f"({_START_UP}) redirects the output, such as with `exec 2>&1`, or sends it through another program. "
                f"Let it do so only if `[ -t 0 ]`"
            )
        if answer.begun or done.returncode == SSH_FAILED:
            text = f"the connection was lost while running {what} on {self.name}; it may have run"
            raise ConnectionLost(f"{text}: {words}")
        raise HostError(
            f"{what} was not run on {self.name}: the login shell ended before, with status {done.returncode}: {words}. "
            f"Perhaps a start-up file there ({_START_UP}) ends it (`exit`), puts another program in its place "
            f"(`exec`), or redirects its output (`exec >file`): let it do so only if `[ -t 0 ]`. To see it, try: "
            f"ssh {self.name} echo works"
        )

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
        directory = control_directory()
        prefix = ["ssh"]
        if any(value is not None for value in (self.port, self.user, self.keyfile, self.config_file)):
            prefix += ["-F", str(write_once(directory, self._configuration()))]
        # Not ssh's own %C: since 9.6 it depends on ProxyJump, which is off for the commands.
        done = self._ssh([*prefix, "-G", "--", self.name], b"", 30, f"reading the configuration of {self.name}")
        if done.returncode != 0:
            self._fail("ssh refuses its configuration", done.stderr)
        known = re.search(r"^userknownhostsfile (.*)$", text_of(done.stdout), re.MULTILINE)
        self._forgets = known is not None and {*known[1].split()} <= {"/dev/null", "none"}
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
            keys = [keyfile, *filter(Path.exists, (account.home() / ".ssh" / name for name in _USUAL_KEYS))]
        return ssh_config(self.name, included, self.port, self.user, [str(key) for key in keys])

    @property
    def _socket(self) -> Path:
        return Path(self._prefix[-1])

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other threads and processes from starting or ending this master."""
        with open(self._socket.with_suffix(".lock"), "w", opener=private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _control(self, verb: str) -> bool:
        """Say something to the master; return if it is there."""
        try:
            return self._ssh([*self._prefix, "-O", verb, "--", self.name], b"", 10, verb).returncode == 0
        except HostError:
            return False

    def _ssh(
        self,
        argv: Sequence[str],
        input: bytes,
        timeout: float,
        what: str,
        ended: Callable[[bytes], bool] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return execute(argv, input, timeout, what, ended=ended)
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
        if "Host key verification failed" in words and self._forgets:
            advice = (
                "your ssh's configuration says UserKnownHostsFile /dev/null for it, where no key is kept, and only "
                "machines whose key is known are connected to: give it a file there, such as ~/.ssh/known_hosts; "
                "then {try_} once, and compare the key"
            )
        advice = advice.format(try_=f"try: ssh {port}{user}{key}{shlex.quote(self.name)} true", asking=asking)
        raise HostError(f"{what}: {end_of(words) or SILENT} ({advice})")


def _not_begun(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Is there no master, or one that ended before it had a session, as after the machine slept or moved?"""
    words = text_of(done.stderr)
    return done.returncode == SSH_FAILED and _NO_SESSION in words and ("mux_client" not in words or _LOST in words)
