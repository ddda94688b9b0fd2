"""What must hold against tricks: with ssh_dir, with modes, with values of the configuration, with pickles."""

import ast
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import sheepdog
from sheepdog.config import Config
from sheepdog.deployment import LocalHost, SSHHost
from sheepdog.deployment.ssh_config import ssh_config
from sheepdog.deployment.upload import upload_and_run
from sheepdog.errors import CommandFailed, ConfigError, SchedulerError
from tests.faults import fault
from tests.local import DB
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("place")
SOURCE = Path(sheepdog.__file__).parent
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- ssh_dir


def put(directory: str) -> str:
    """Put a file into a directory, and return where it is; or what is refused."""
    try:
        return upload_and_run(LocalHost(), f"{directory}/job", {"run": b"pwd"}, "run").decode().strip()
    except CommandFailed as error:
        return error.errors.decode().strip()


def folder(path: Path, bits: int, owner: int | None = None) -> Path:
    path.mkdir(exist_ok=True)
    path.chmod(bits)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


@pytest.mark.parametrize("bits", [0o755, 0o777, 0o500, 0o000, 0o770, 0o700])
@fault(48, "the directory for the jobs is open to others, or closed to oneself", promise="it is made one's own alone")
def test_ones_own_sheepdog_is_closed(place: Path, bits: int) -> None:
    there = folder(place / "home/.sheepdog", bits)
    assert put(".sheepdog") == str(there / "job")
    assert mode(there) == mode(there / "job") == 0o700
    assert mode(there / "job/run") == 0o600


@pytest.mark.parametrize("bits", [0o755, 0o711, 0o1777, 0o1775, 0o2755])
def test_a_directory_for_other_things_too_keeps_its_mode(place: Path, bits: int) -> None:
    there = folder(place / "home/work", bits)
    assert put("work") == str(there / "job")
    assert mode(there) == bits
    assert mode(there / "job") & 0o777 == 0o700


def test_a_group_of_one_s_own_is_oneself(place: Path) -> None:
    """As on systems where each user has one, and the umask 002."""
    done = subprocess.run('[ "$(id -un)" = "$(id -gn)" ]', shell=True)
    if done.returncode:
        pytest.skip("this user has no group of the same name")
    there = folder(place / "home/work", 0o775)
    assert put("work") == str(there / "job")


def link(place: Path) -> None:
    folder(place / "home/elsewhere", 0o700)
    (place / "home/.sheepdog").symlink_to("elsewhere")


def link_of_others(place: Path) -> None:
    folder(place / "home/elsewhere", 0o700)
    (place / "home/up").symlink_to("elsewhere")
    os.chown(place / "home/up", 7002, 7002, follow_symlinks=False)


def link_to_where_others_write(place: Path) -> None:
    folder(folder(place / "open", 0o777) / "x", 0o700)
    (place / "home/up").symlink_to(place / "open/x")


REFUSED: list[tuple[Callable[[Path], object], str, str]] = [
    (link, ".sheepdog", "./.sheepdog is a link: set ssh_dir to where it leads"),
    (lambda place: (place / "home/.sheepdog").symlink_to("nowhere"), ".sheepdog", "./.sheepdog is a link"),
    (lambda place: (place / "home/.sheepdog").write_text("x"), ".sheepdog", "./.sheepdog cannot be made: make room"),
    (lambda place: (place / "home/up").write_text("x"), "up/dir", "./up/dir cannot be made"),
    (lambda place: folder(place / "home", 0o777), ".sheepdog", ". can be changed by others (drwxrwxrwx): chmod go-w"),
    (lambda place: folder(place / "home/up", 0o777), "up", "./up can be changed by others"),
    (lambda place: folder(place / "home/up", 0o757), "up/x/y", "./up can be changed by others"),
    (lambda place: folder(place / "home/up", 0o777), "HOME/up/x", "/home/up can be changed by others"),
    (link_to_where_others_write, "up/y", "open can be changed by others"),
    (lambda place: (place / "home/work").mkdir() or link_job(place), "work", "./work/job is a link"),
]
REFUSED_AS_ROOT: list[tuple[Callable[[Path], object], str, str]] = [
    (lambda place: folder(place / "home/.sheepdog", 0o700, 7002), ".sheepdog", "./.sheepdog belongs to another user"),
    (lambda place: folder(place / "home/up", 0o755, 7002), "up/x", "./up belongs to another user (7002)"),
    (lambda place: folder(place / "home/up", 0o1777, 7002), "up", "./up belongs to another user (7002)"),
    (link_of_others, "up/x", "./up belongs to another user (7002)"),
    (
        lambda place: folder(folder(place / "home/work", 0o1777) / "job", 0o700, 7002),
        "work",
        "./work/job belongs to another user (7002)",
    ),
    (
        lambda place: (folder(place / "home/up", 0o770), os.chown(place / "home/up", 0, 7002)),
        "up",
        "./up can be changed by its group (drwxrwx---): chmod g-w it",
    ),
]  # fmt: skip


def link_job(place: Path) -> None:
    folder(place / "elsewhere", 0o700)
    (place / "home/work/job").symlink_to(place / "elsewhere")


@pytest.mark.parametrize(
    ("prepare", "directory", "words"),
    [*REFUSED, *(pytest.param(*case, marks=AS_ROOT) for case in REFUSED_AS_ROOT)],
)
@fault(
    48,
    "a directory for the jobs that is a link, another's, or that others can change",
    promise="refused, with the part of the path and what to do; no secret was put there",
)
def test_directories_that_are_not_used(
    place: Path, prepare: Callable[[Path], object], directory: str, words: str
) -> None:
    """The refusal says which part of the path it is, and what to do; no secret was put anywhere."""
    prepare(place)
    said = put(directory.replace("HOME", str(place / "home")))
    assert words in said
    assert said.endswith(", or set ssh_dir to a directory of your own")
    assert not list(place.rglob("run"))


def test_a_link_on_the_way_that_is_one_s_own(place: Path) -> None:
    """Such as a home that has moved, or /tmp on macOS."""
    folder(place / "home/elsewhere", 0o700)
    (place / "home/up").symlink_to("elsewhere")
    assert put("up/x") == str(place / "home/up/x/job")
    assert put(f"{place}/home/up/x").endswith("/up/x/job")


def test_the_user_hears_it(place: Path) -> None:
    folder(place / "home/up", 0o777)
    config = {"ssh_dir": "up/x", "workers": 1}
    with pytest.raises(SchedulerError, match=r"\./up can be changed by others .*: chmod go-w it, or set ssh_dir to"):
        sheepdog.map(len, [("a",)], config)
    assert not list((place / "home/up/x").glob("*"))


@AS_ROOT
@fault(48, "the disk or the quota on the host is full", promise="an error that says so; nothing is run")
def test_a_full_disk_on_the_host(place: Path) -> None:
    """In a namespace of its own, where a small file system is mounted on the home."""
    code = """
from sheepdog.deployment import LocalHost
from sheepdog.errors import CommandFailed
from sheepdog.deployment.upload import upload_and_run
try:
    upload_and_run(LocalHost(), ".sheepdog/job", {"run": b"echo never", "big": b"x" * 3_000_000}, "run")
except CommandFailed as error:
    print(error.output, error.errors.decode())
print(upload_and_run(LocalHost(), ".sheepdog/job", {"run": b"echo now", "big": b"x"}, "run"))
"""
    mount = f'mount -t tmpfs -o size=1m,mode=700 tmpfs {place}/home && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    if "unshare" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert "No space left on device" in done.stdout
    assert "./.sheepdog/job cannot hold the files: make room, or set ssh_dir" in done.stdout
    assert "never" not in done.stdout
    assert done.stdout.splitlines()[-1] == r"b'now\n'"


# --- modes, whatever the umask


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o027])
@fault(51, "any umask", promise="database, logs and secrets are their owner's alone")
def test_modes_whatever_the_umask(place: Path, umask: int) -> None:
    """Of the database, its log and memory, the lock, the server's log, and all that goes to the host."""
    (place / "go").unlink(missing_ok=True)
    old = os.umask(umask)
    try:
        request = sheepdog.map_async(wait_for, [(str(place / "go"),)], {"workers": 1})
        until(lambda: "serving" in Path("sheepdog.sqlite-server.log").read_text(), "the server runs")
        [job] = (place / "home/.sheepdog").glob("sheepdog_*")
        assert mode(job) == mode(job.parent) == 0o700
        assert [oct(mode(secret)) for secret in job.rglob("secret*")] == ["0o600"]
        (place / "go").touch()
        assert [result for _, result in sheepdog.get_results(request, DB)] == [None]
        files = [path for path in place.iterdir() if path.name.startswith("sheepdog.sqlite")]
        assert {path.suffix for path in files} >= {".sqlite", ".sqlite-wal", ".sqlite-shm", ".sqlite-server", ".log"}
        assert {path.name: oct(mode(path)) for path in files} == {path.name: "0o600" for path in files}
    finally:
        os.umask(old)


def wait_for(path: str) -> None:
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.01)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_of_what_ssh_needs(bench: "Bench", umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(tempfile.gettempdir(), ".cache")
    monkeypatch.setenv("HOME", str(cache.parent))  # of a short name, for sockets
    old = os.umask(umask)
    try:
        SSHHost("far", port=22).run(["true"])
    finally:
        os.umask(old)
    made = [cache, *cache.rglob("*")]
    assert {path.suffix for path in made} >= {".conf", ".lock"}
    assert all(mode(path) == (0o700 if path.is_dir() else 0o600) for path in made)


# --- values that are not what they seem

# Programs that go before the real ones on PATH. ssh does with the command what sshd does: it hands one text to a shell.
PROGRAMS = {
    "ssh": """
{ for word; do printf '%s\\0' "$word"; done; printf '\\n\\0'; } >"$RECORD/ssh.$$"
cat "$RECORD/ssh.$$" >>"$RECORD/ssh"; rm -f "$RECORD/ssh.$$"
while [ "$1" != -- ]; do
  case $1 in -G) echo "host $#"; exit;; -O|-N) exit;; -F) cp "$2" "$RECORD/config";; esac
  shift
done
cd "$FAR" && HOME=$FAR exec sh -c "$3"
""",
    "qsub": """
for word; do last=$word; done
cp "$last" "$RECORD/job_file"; cp secret.json "$RECORD/"; pwd >"$RECORD/where"
echo 7
""",
    "qstat": "echo '<job_info/>'",
    "qdel": "exit 0",
    "canary": 'echo "$0 $*" >>"$RECORD/canary"',
    "python3": 'for word; do printf "%s\\n" "$word"; done >"$RECORD/python"',
}


class Bench:
    """A place in which commands are tried out, and what was run there."""

    def __init__(self, place: Path) -> None:
        self.home, self.far, self.record = place / "home", place / "far", place / "record"
        self.examples = 0  # each has a host of its own
        self.hosts: set[object] = set()  # the server may still ask those of earlier requests
        for path in (self.far, self.record, place / "bin"):
            path.mkdir()
        for name, text in PROGRAMS.items():
            (place / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (place / "bin" / name).chmod(0o755)

    def read(self, name: str) -> str:
        return (self.record / name).read_text(errors="surrogateescape")

    def forget(self) -> None:
        for path in self.record.iterdir():
            path.unlink(missing_ok=True)

    def calls(self) -> list[list[str]]:
        """The arguments of each call of ssh."""
        if not (self.record / "ssh").exists():
            return []
        return [call.split("\0")[:-1] for call in self.read("ssh").split("\n\0")[:-1]]


@pytest.fixture
def bench(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(place)
    monkeypatch.setenv("PATH", f"{place}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(bench.record))
    monkeypatch.setenv("FAR", str(bench.far))
    monkeypatch.setenv("SHEEPDOG_DBFILE", str(place / "sheepdog.sqlite"))
    with tempfile.TemporaryDirectory(prefix="sd") as short:  # for the control socket
        monkeypatch.setenv("XDG_RUNTIME_DIR", "")
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield bench


TRICKS = [
    *("-oProxyCommand=canary", "$(canary)", "`canary`", ";canary;", "|canary", "&canary&", "\ncanary\n", "\n#$ -N x\n"),
    *("';canary;'", '";canary;"', "'", '"', "\\", "\0", "$HOME", "${HOME}", "~", "*", "%h", "%(canary)", "{a,b}", "!!"),
    *("(canary)", "<(canary)", ">canary", "#", " ", "\t", "\r", "\u2028", "\u202e", "ä", "🐑", "--", "-", "-S canary"),
    *("=", ",", "a", "fear", "0", "/", "@", ":", "..", "[", "]", "\x1b[2J", "\ud800", "$IFS", "\\\n"),
]
TEXT = st.lists(st.sampled_from(TRICKS), min_size=1, max_size=4).map("".join) | st.text(max_size=12)

STARTS = {
    "host": ["", "fear", "me@fear"],
    "ssh_user": ["", "anna"],
    "ssh_dir": ["", "jobs/"],
    "shell": ["", "python3 ", "python3"],
    "name": ["", "lamb"],
    "ge_opts": ["", "-l x=", "-v A=", "-"],
    "localhost": ["", "here"],
    "memory_resource": ["", "h_vmem"],
}


@given(st.data(), st.sampled_from(sorted(STARTS)))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@fault(
    "injection",
    "any text as host, user, directory, program, name or option",
    promise="it is refused, or arrives as it is; nothing that it names is run",
)
def test_a_value_is_refused_or_arrives_as_it_is(bench: Bench, data: st.DataObject, key: str) -> None:
    """Nothing is run that the value names, on this side or on the other."""
    value = data.draw(st.sampled_from(STARTS[key])) + data.draw(TEXT)
    check_arrival(bench, key, value)


@pytest.mark.parametrize("trick", TRICKS, ids=repr)
@pytest.mark.parametrize("key", ["ge_opts", "shell"])
@fault(
    "injection",
    "shell syntax, options and line ends where most is allowed",
    promise="refused, or passed on as they are; nothing that they name is run",
)
def test_each_trick_where_most_is_allowed(bench: Bench, key: str, trick: str) -> None:
    check_arrival(bench, key, STARTS[key][1] + trick)


def check_arrival(bench: Bench, key: str, value: str) -> None:
    bench.forget()
    bench.examples += 1
    if key == "ssh_dir" and value.startswith("/"):
        value = f"{bench.far}{value}"
    config = {"host": f"fear{bench.examples}", "localhost": "here", "scheduler": "gridengine", "workers": 1}
    config |= {"memory": "1G", "shell": "python3", "link": "direct"}  # PROGRAMS has a Python that is no relay
    config[key] = [value] if key == "ge_opts" else value
    try:
        sheepdog.map_async(len, [("a",)], config)
    except ConfigError:
        assert config["host"] not in {host_of(call) for call in bench.calls()}  # it was refused before anything was run
        return
    run_job_file(bench)
    assert not (bench.record / "canary").exists(), bench.read("canary")
    bench.hosts.add(config["host"])
    assert config["host"] in {host_of(call) for call in bench.calls()} <= bench.hosts
    given = [line.removeprefix("#$ ") for line in bench.read("job_file").split("\n") if line.startswith("#$ ")]
    name = value if key == "name" else "sheepdog"
    [named] = [line for line in given if line.startswith("-N ")]
    assert named.startswith(f"-N {name}_")
    urls = json.loads(bench.read("secret.json"))["urls"]
    if key == "ge_opts":
        assert value in given
    elif key == "memory_resource":
        assert any(line.startswith(f"-l {value}=") for line in given)
    elif key == "localhost":
        assert value in urls[0]
    elif key == "ssh_user":
        assert f'    User "{value}"\n' in bench.read("config")
    elif key == "ssh_dir":
        clean = Config(ssh_dir=value).ssh_dir
        assert f"-wd {clean}" in given or f"-wd $HOME/{clean}" in given
        assert Path(bench.read("where").strip()).is_relative_to(bench.far / clean)
    elif key == "shell" and shlex.split(value)[0] == "python3":
        words = shlex.split(value)[1:]
        assert bench.read("python").split("\n")[: len(words)] == words


def host_of(call: list[str]) -> str:
    """The host that a call of ssh is for. There is one command behind it, if any."""
    where = call.index("--")
    assert len(call) <= where + 3
    return call[where + 1]


def run_job_file(bench: Bench) -> None:
    """As a node does, but with a Python that only says what it was given."""
    environment = {"HOME": str(bench.far), "PATH": os.environ["PATH"], "RECORD": str(bench.record), "SGE_TASK_ID": "1"}
    subprocess.run(["sh", bench.record / "job_file"], env=environment, cwd=bench.far, capture_output=True, timeout=120)


@given(user=TEXT, name=TEXT)
@example(user="LAB\\anna", name="my key")
@example(user="anna\\", name="${HOME}")
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_what_the_real_ssh_reads(place: Path, user: str, name: str) -> None:
    """The user and the key that Config lets pass are the ones that ssh would use."""
    keyfile = f"{place}/{name}"
    try:
        config = Config(host="fear", ssh_user=user, ssh_keyfile=keyfile)
        text = ssh_config("fear", [], None, config.ssh_user, [keyfile])
    except ConfigError:
        return
    (place / "config").write_text(text)
    command = [shutil.which("ssh") or pytest.skip("no ssh here"), "-F", "config", "-G", "--", "fear"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"user {user}\n" in done.stdout
    assert f"identityfile {keyfile.replace('%', '%%')}\n" in done.stdout


# --- the server unpickles nothing

WATCH = """
import os, sys
if "serve" in sys.orig_argv:
    import pickle
    def note(what):
        with open(os.environ["RECORD"] + "/pickle", "a") as file:
            file.write(what + "\\n")
    def refuse(name):
        def refused(*args, **options):
            note(name)
            raise RuntimeError("the server unpickles")
        known = getattr(pickle, name)
        return type(name, (known,), {"__init__": refused}) if isinstance(known, type) else refused
    sys.addaudithook(lambda event, args: note(event) if event == "pickle.find_class" else None)
    for name in ("load", "loads", "_load", "_loads", "Unpickler", "_Unpickler"):
        setattr(pickle, name, refuse(name))
    note("watching")
"""


@fault(53, "results of a class, errors, large results", promise="the server's process calls no unpickler")
def test_the_server_process_unpickles_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a run with results, errors, a large value and a class, whatever the server does is watched."""
    (place / "sitecustomize.py").write_text(WATCH)
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setenv("RECORD", str(place))
    config = {"workers": 2, "poll_interval": 1}
    results = sheepdog.map(make, [(kind,) for kind in ("plain", "class", "large", "error")], config, verbose=False)
    assert [type(result).__name__ for result in results] == ["int", "Canary", "bytes", "NoneType"]
    assert [error.split("\n")[0] for _, error in sheepdog.get_errors(1, DB)] == ["ValueError: error"]
    until(lambda: (place / "pickle").exists(), "the server has begun to watch")
    assert (place / "pickle").read_text().split() == ["watching"]


class Canary:
    pass


def make(kind: str) -> object:
    if kind == "error":
        raise ValueError(kind)
    return {"plain": 1, "class": Canary(), "large": b"x" * 20_000_000}[kind]


ROOMS = [file for package in ("server", "storage") for file in sorted((SOURCE / package).rglob("*.py"))]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def test_no_room_of_the_server_can_unpickle(room: Path) -> None:
    dangerous = {"pickle", "_pickle", "cloudpickle", "marshal", "shelve", "dill", "serialisation", "importlib"}
    imported = set()
    for node in ast.walk(ast.parse(room.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {(node.module or "").partition(".")[0], *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Name):
            assert node.id not in ("eval", "exec", "__import__")
    assert not imported & dangerous
