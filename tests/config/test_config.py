"""The keys of a configuration: what each may be, and what the values mean."""

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.config import Config, make_config
from sheepdog.errors import ConfigError
from tests.config.conftest import Place
from tests.faults import fault

# The Config


def test_defaults(place: Place) -> None:
    assert dataclasses.asdict(place.make()) == {
        "host": None,
        "ssh_port": None,
        "ssh_user": None,
        "ssh_keyfile": None,
        "ssh_dir": ".sheepdog",
        "dbfile": "./sheepdog.sqlite",
        "port": None,
        "localhost": None,
        "link": "auto",
        "shell": None,
        "python": "auto",
        "setup": (),
        "env": (),
        "ge_opts": (),
        "slurm_opts": (),
        "scheduler": None,
        "workers": None,
        "name": None,
        "queue": None,
        "cpus": None,
        "gpus": None,
        "memory": None,
        "memory_resource": None,
        "gpu_resource": None,
        "parallel_environment": None,
        "patience": 86400.0,
        "lease": 150.0,
        "poll_interval": 30.0,
        "time": None,
        "timeout": None,
        "retries": 0,
        "retry_delay": 5.0,
        "max_losses": 3,
        "on_oom": None,
        "on_walltime": None,
        "resubmissions": 3,
        "fail_fast": 20,
        "idle_time": 600.0,
        "keep": None,
        "tasks_per_child": None,
        "max_output": 16384,
        "ship": (),
        "packages": None,
        "trusted": True,
    }


def test_a_config_is_a_value() -> None:
    config = Config(ge_opts=("-cwd",))
    assert config == make_config({"ge_opts": ["-cwd"]}, environ={}, directory="/nowhere", home="/nowhere")
    assert len({config, Config(ge_opts=("-cwd",))}) == 1
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.port = 1  # type: ignore[misc]


def test_a_config_made_directly_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="port is 70000"):
        Config(port=70000)
    with pytest.raises(ConfigError, match="workers is 0"):
        dataclasses.replace(Config(), workers=0)


# The values


class APath:
    def __fspath__(self) -> str:
        return "/data/a file"


ACCEPTED = [
    ("host", "fear", "fear"),
    ("host", "a.user@node-1.example.org", "a.user@node-1.example.org"),
    ("host", "me@realm@gate_way", "me@realm@gate_way"),
    ("host", "[fe80::1]", "[fe80::1]"),
    ("host", None, None),
    ("ssh_port", 1, 1),
    ("ssh_port", 65535, 65535),
    ("ssh_user", "anna.k-2", "anna.k-2"),
    ("ssh_user", "LAB\\anna", "LAB\\anna"),
    ("ssh_keyfile", "~/.ssh/my key", "~/.ssh/my key"),
    ("ssh_keyfile", APath(), "/data/a file"),
    ("ssh_dir", "/scratch/anna/jobs", "/scratch/anna/jobs"),
    ("ssh_dir", "./jobs//run-1/", "jobs/run-1"),
    ("ssh_dir", "a..b", "a..b"),
    ("dbfile", "/tmp/a b.sqlite", "/tmp/a b.sqlite"),
    ("dbfile", APath(), "/data/a file"),
    ("port", 8000, 8000),
    ("localhost", "10.0.0.1", "10.0.0.1"),
    ("localhost", "::1", "::1"),
    ("localhost", "[2001:DB8::1]", "2001:db8::1"),
    ("link", "direct", "direct"),
    ("link", "auto", "auto"),
    ("shell", "/usr/bin/env python3", "/usr/bin/env python3"),
    ("python", "auto", "auto"),
    ("python", "cpython-3.13", "3.13"),
    ("python", "3.13.2", "3.13.2"),
    ("python", "3.6", "3.6"),
    ("python", "/opt/python.tar.gz", "/opt/python.tar.gz"),
    ("python", Path("/opt/python"), "/opt/python"),
    ("setup", ["module load python/3.11", "\tulimit -c 0"], ("module load python/3.11", "\tulimit -c 0")),
    ("env", {"A": "x y", "_b1": 4, "C": ""}, (("A", "x y"), ("_b1", "4"), ("C", ""))),
    ("env", [["A", "1"], ["A", "2"]], (("A", "2"),)),
    ("ge_opts", [], ()),
    *[
        ("slurm_opts", list(given), given)
        for given in (("--wait-all-nodes=1", "-p long", '--comment="-a there"'), ("-t 1-00:00:00", "-Dx", "--hold"))
    ],
    ("ge_opts", ["-cwd", "-l h_rt=60"], ("-cwd", "-l h_rt=60")),
    ("ge_opts", ("-wd $HOME/.sheepdog/",), ("-wd $HOME/.sheepdog/",)),
    ("ge_opts", ["-tc 5", '-v "NOTE=see -t there"'], ("-tc 5", '-v "NOTE=see -t there"')),
    ("scheduler", "local", "local"),
    ("scheduler", "gridengine", "gridengine"),
    ("scheduler", None, None),
    ("workers", 100_000, 100_000),
    ("name", "_a.B-1", "_a.B-1"),
    ("name", "a" * 64, "a" * 64),
    ("memory", "2G", "2G"),
    ("memory", "2g", "2G"),
    ("memory", 2**31, "2147483648"),
    ("memory_resource", "s_vmem", "s_vmem"),
    ("memory_resource", "ram.c", "ram.c"),
    ("patience", 1, 1.0),
    ("patience", 0.5, 0.5),
    ("lease", 1, 1.0),
    ("poll_interval", 2.5, 2.5),
    ("time", "2h", "2h"),
    ("time", "1:30:00", "1:30:00"),
    ("time", 5400, "5400"),
    ("timeout", 1, 1.0),
    ("timeout", 0.001, 0.001),
    ("retries", 0, 0),
    ("retries", 1000, 1000),
    ("retry_delay", 0, 0.0),
    ("max_losses", 1, 1),
    ("resubmissions", 0, 0),
    ("fail_fast", 0, 0),
    ("keep", "30d", "30d"),
    ("tasks_per_child", 1, 1),
    ("max_output", 0, 0),
    ("ship", ["data", Path("/tmp/x"), "mine"], ("data", "/tmp/x", "mine")),
    ("ship", False, False),
    ("ship", True, ()),
    ("packages", True, True),
    ("packages", False, None),
    ("packages", ["numpy==1.26.*", "scipy"], ("numpy==1.26.*", "scipy")),
    ("packages", ["wool @ file:///w/wool.toml"], ("wool @ file:///w/wool.toml",)),
    ("packages", [" numpy[a] >1; python_version>'3' "], (" numpy[a] >1; python_version>'3' ",)),
    ("packages", Path("requirements.txt"), "requirements.txt"),
    ("trusted", False, False),
]


@pytest.mark.parametrize(("key", "given", "kept"), ACCEPTED)
def test_accepted(place: Place, key: str, given: object, kept: object) -> None:
    value = getattr(place.make({key: given}), key)
    assert value == kept
    assert type(value) is type(kept)


def test_a_path_becomes_absolute(place: Place) -> None:
    assert place.make({"python": "python.tar.gz"}).python == str(Path("python.tar.gz").absolute())
    assert place.make({"python": "./2.7"}).python == str(Path("2.7").absolute())
    assert place.make({"python": "~/python"}).brings == str(Path("~/python").expanduser())
    assert (place.make({"python": "3.13"}).version, place.make({"python": "3.13"}).brings) == ("3.13", "")


HOST = "a host's name, of letters, digits and . _ - : [ ] @ only"
PORT = "a whole number from 1 to 65535"
DIRECTORY = "of letters, digits and . _ - + @ / only"
SIZE = 'a whole number of bytes, or one with a unit k, m, g or t, such as "2G"'
TIME = 'a whole number of seconds, or one with a unit s, m, h or d, such as "2h", or "2:00:00"'
FACTOR = 'a factor above 1 and at most 10, such as "2x"'
NAME = "a letter or _ followed by at most 63 letters, digits and . _ -"
LINE = "one line of printable text"
OPTION = 'each is one line of text and begins with "-"'
OPTION_OF_SBATCH = "must hold options of sbatch"

REFUSED = [
    *[("host", value, HOST) for value in ("", "-oProxyCommand=x", "me@-x", "a b", "a\n", "a;b", "ä", "a/b", 5)],
    *[("ssh_port", value, PORT) for value in (0, 65536, True, "22", 22.0)],
    *[("ssh_user", value, "a user's name") for value in ("", "-l", "a b", "a;b", "a\n", "a\\", "\\a", "a\\\\b", 5)],
    *[("ssh_keyfile", value, LINE) for value in ("", "a\nb", "a\0", 5)],
    *[("ssh_dir", value, DIRECTORY) for value in ("", "~", "~/x", "a b", "a\n", "a'b", 'a"b', "$HOME", "`x`")],
    *[("ssh_dir", value, DIRECTORY) for value in ("a;b", "ä", None, 5)],
    *[("ssh_dir", value, 'without ".."') for value in ("..", "a/../b", "/..", "/", "//", ".", "./")],
    *[("ssh_dir", value, 'must not begin with "-"') for value in ("-a", "./-a")],
    *[("dbfile", value, "the path of a file") for value in ("", "a\0b", None, 5, b"a")],
    ("dbfile", ":memory:", "the server is another process"),
    *[("port", value, PORT + ", or left out for a free port") for value in (0, -1, 70000, True, "80", 1.5)],
    *[("localhost", value, "option port") for value in ("here:5000", "10.0.0.1:5000", "[::1]:5000")],
    *[("localhost", value, "this machine's name") for value in ("", "-x", "me@here", "a b", 5)],
    *[("link", value, 'one of "auto", "direct", "relay"') for value in ("", "spool", "Relay", 5, None)],
    *[
        ("python", value, 'a version such as "3.13", and workers need 3.6 or newer')
        for value in ("2.7", "2.7.18", "python2.7", "cpython-3.5", "3.5.10", "3", "python3", "4.0")
    ],
    *[("python", value, 'must be "auto", a version') for value in ("", " ", "3.13\n", 3.13, ["3.13"], True)],
    *[("shell", value, LINE) for value in ("", " ", "python3\n", "a\0", 5)],
    ("setup", "module load x", "a list of lines: write ['module load x']"),
    *[("setup", [value], "lines of printable text; not") for value in ("", " ", "a\nb", "a\0", 5, None)],
    *[("env", value, "a dict of variables") for value in ("A=1", 5, None, ["A"])],
    *[("env", {name: "x"}, "is no name of a variable") for name in ("", "a b", "a=b", "1a", "\u00e4", 5)],
    *[("env", {"A": value}, "which is no text") for value in (None, True, ["x"], "a\0b")],
    ("ge_opts", "-l h_rt=60", "a list of options of qsub: write ['-l h_rt=60']"),
    *[("ge_opts", value, "a list of options of qsub") for value in (None, 5, {"-l": "x"})],
    *[("ge_opts", [value], OPTION) for value in ("", "l x", " -cwd", "-a\n-b", "-a\0", "-a\u00a0b", 5, None)],
    ("ge_opts", ['-v A="b'], "must have its quotes closed"),
    ("ge_opts", ["-t 1-3"], "must not hold -t: use the key workers"),
    ("ge_opts", ["-cwd", "-q all.q -t 1-3"], "must not hold -t: use the key workers"),
    ("ge_opts", ["-N x"], "must not hold -N: use the key name"),
    ("ge_opts", ["-S /bin/sh"], "must not hold -S: use the key shell"),
    *[
        ("ge_opts", [value], f"must not hold {value.split()[0]}: Sheepdog sets it itself")
        for value in ("-terse", "-sync y", "-b y")
    ],
    ("slurm_opts", "--time=60", "a list of options of sbatch: write ['--time=60']"),
    *[("slurm_opts", value, "a list of options of sbatch") for value in (None, 5, {"--time": "x"})],
    *[("slurm_opts", [value], OPTION_OF_SBATCH) for value in ("", "time=60", " -H", "-H\n-I", "-H\0", 5, None)],
    ("slurm_opts", ['--comment="b'], "must have its quotes closed"),
    *[
        ("slurm_opts", [value], "use the key workers")
        for value in ("--array=1-3", "-a1-3", "-a 1-3", "--arr=1-3", "-p long --array 1-3", "-Ha1-3", "-H -a 1")
    ],
    *[("slurm_opts", [value], "use the key name") for value in ("--job-name=x", "-Jx", "-J x", "--job-n=x")],
    *[("slurm_opts", [value], "use the key host") for value in ("--clusters=x", "-Mx", "--cluster=x")],
    *[("slurm_opts", [value], "Sheepdog") for value in ("--parsable", "--wait", "-W", "--wrap=true", "-HW")],
    ("slurm_opts", ["--test-only"], "nothing would be submitted"),
    ("slurm_opts", ["--chdir=/data --hold"], "must hold --chdir in a line of its own"),
    *[("ge_opts", [f"-l mem_grab{value}"], "mem_grab, which must be " + SIZE) for value in ("", "=", "=2X", "=0")],
    *[
        ("scheduler", value, 'one of "gridengine", "slurm", "drmaa", "local"')
        for value in ("slurmy", "", "LOCAL", 5, ["local"])
    ],
    *[("workers", value, "a whole number from 1 to 100000") for value in (0, 100_001, True, "4", 4.0)],
    *[("name", value, NAME) for value in ("", "1a", "-a", "a b", "a\n", "ä", "a/b", "a" * 65, 5)],
    *[("memory", value, SIZE) for value in ("", "2X", "2GB", "1.5G", "-1G", "G", "2 G", "9999999T", True, 2e9)],
    *[("memory", value, "at least 1M") for value in (2, "2", "1023k")],
    *[
        (key, value, "a name of the site's")
        for key in ("memory_resource", "gpu_resource", "parallel_environment")
        for value in ("", "1a", "a=b", "a,b", "a\n", "a b", 5)
    ],
    *[("queue", value, "the names of queues") for value in ("", "-x", "a b", "a\n", "a;b", 5)],
    *[("cpus", value, "a whole number from 1 to 10000") for value in (0, -1, "4", 1.5, True)],
    *[("gpus", value, "a whole number from 1 to 1000") for value in (0, -1, "4", 1.5, True)],
    *[("patience", value, "more than 0") for value in (0, -1, True, "60", float("nan"), float("inf"), 10**400)],
    *[("keep", value, TIME) for value in ("", "0", "never", -1)],
    *[("time", value, TIME) for value in ("", "0", "2x", "1:2", "1:60:00", "-1h", "1.5h", "0:0:0", 0, 1.5, True)],
    *[("timeout", value, "more than 0") for value in (0, -1, True, "60", float("nan"))],
    ("retry_delay", -1, "at least 0"),
    *[
        (key, value, "a whole number from 0")
        for key in ("retries", "resubmissions", "fail_fast")
        for value in (-1, "1")
    ],
    *[(key, value, "a whole number from 1") for key in ("max_losses", "tasks_per_child") for value in (0, True, 1.5)],
    *[(key, value, FACTOR) for key in ("on_oom", "on_walltime") for value in ("2", "1x", "11x", "x", 2, "2 x", "-2x")],
    *[("max_output", value, "a whole number from 0 to 524288") for value in (-1, "1", 1 << 20, True)],
    *[("packages", [value], "must list requirements such as") for value in ("no such thing!!", "numpy=1", "a b")],
    *[
        ("packages", ["numpy", value], f'give the file itself, packages="{value}"')
        for value in ("requirements.txt", "pylock.toml", "uv.lock", "lib/requirements.txt", "C:\\lib\\uv.lock")
    ],
    *[
        ("packages", [value], f'give a file of requirements itself, packages="{value}", and what is to be installed')
        for value in ("wheels/wool.whl", "https://example.org/wool.whl", "git+https://example.org/wool", "lib/asked.in")
    ],
    *[("packages", value, "a list of requirements") for value in ([], 1, [1], ["-r x"], [""], "", "a\nb", {"a": 1})],
    *[("ship", value, "a list of files, folders") for value in ("data", 1, [1], [""], ["a\0"], {"a": 1}, None)],
    *[("trusted", value, "True or False") for value in (1, 0, "yes", None)],
    *[(key, value, "at least 1") for key in ("lease", "poll_interval") for value in (0.9, True, None, "60")],
]


@fault(
    "injection",
    "configuration values that are wrong or hold shell syntax",
    promise="an error that names the key and what is allowed",
)
@pytest.mark.parametrize(("key", "value", "allowed"), REFUSED)
def test_refused(place: Place, key: str, value: object, allowed: str) -> None:
    message = place.refuse({key: value})
    assert message.startswith(f"{key} is ")
    assert len(repr(value)) > 60 or repr(value) in message
    assert allowed in message


def test_a_relay_needs_a_host(place: Place) -> None:
    assert place.make({"link": "relay", "host": "fear"}).link == "relay"
    assert place.refuse({"link": "relay"}) == (
        "link is 'relay', and there is no host for one: set the option host, or leave link out"
    )


def test_the_whole_message(place: Place) -> None:
    assert place.refuse({"port": 70000}) == (
        "port is 70000; it must be a whole number from 1 to 65535, or left out for a free port"
    )


def test_a_long_value_is_shortened(place: Place) -> None:
    message = place.refuse({"name": "x" * 1000})
    assert "..." in message
    assert len(message) < 250


# What the values mean


@pytest.mark.parametrize(
    ("values", "memory", "limit"),
    [
        ({}, None, None),
        ({"memory": "2G"}, 2**31, 2**31),
        ({"memory": 2**31}, 2**31, 2**31),
        ({"ge_opts": ["-l mem_grab=2G"]}, None, 2**31),
        ({"ge_opts": ["-l mem_grab=2g"]}, None, 2**31),
        ({"ge_opts": ["-l mem_grab=500"]}, None, 500),
        ({"ge_opts": ["-cwd", "-q all.q -l h_rt=60,mem_grab=3k,h=node1"]}, None, 3072),
        ({"ge_opts": ["-l mem_grab=1k", "-l mem_grab=2k"]}, None, 2048),
        ({"ge_opts": ["-l not_mem_grab=1X"]}, None, None),
        ({"ge_opts": ["-v mem_grab=1X"]}, None, None),
        ({"ge_opts": ["-l mem_grab=1k"], "memory": "2G"}, 2**31, 2**31),
    ],
)
def test_memory(place: Place, values: dict[str, object], memory: int | None, limit: int | None) -> None:
    config = place.make(values)
    assert config.memory_bytes == memory
    assert config.memory_limit == limit


@pytest.mark.parametrize(
    ("values", "asked", "known"),
    [
        ({}, None, None),
        ({"time": "2h"}, 7200, 7200),
        ({"ge_opts": ["-l h_rt=3600"]}, None, 3600),
        ({"ge_opts": ["-l h_rt=1:00:00,h=node1"]}, None, 3600),
        ({"ge_opts": ["-l s_rt=60"]}, None, 60),
        ({"ge_opts": ["-l h_rt=100 -l s_rt=90"]}, None, 90),
        ({"ge_opts": ["-l h_rt=100", "-l h_rt=200"]}, None, 200),
        ({"slurm_opts": ["--time=90"]}, None, 5400),
        ({"slurm_opts": ["-t 1:30"]}, None, 90),
        ({"slurm_opts": ["-t1:00:01"]}, None, 3601),
        ({"slurm_opts": ["--time 1-2"]}, None, 26 * 3600),
        ({"slurm_opts": ["--time=1-02:03:04"]}, None, 26 * 3600 + 184),
        ({"slurm_opts": ["--time=UNLIMITED"]}, None, None),
        ({"slurm_opts": ["--time=10", "--time=20 --hold"]}, None, 1200),
        ({"ge_opts": ["-l h_rt=INFINITY"]}, None, None),
        ({"ge_opts": ["-l h_rt=INFINITY,s_rt=90"]}, None, 90),
        ({"ge_opts": ["-v h_rt=100"]}, None, None),
        ({"ge_opts": ["-l h_rt=3600"], "time": "2h"}, 7200, 7200),
    ],
)
def test_time(place: Place, values: dict[str, object], asked: int | None, known: int | None) -> None:
    """What is asked of the scheduler, and what the worker may count on."""
    config = place.make(values)
    assert (config.time_seconds, config.walltime) == (asked, known)


def test_resources_can_be_raised(place: Place) -> None:
    config = place.make({"memory": "1G", "time": "1h", "on_oom": "2x", "on_walltime": "1.5x"})
    assert config.raised(0) is config
    assert config.raised(1).memory_bytes == 2 << 30
    assert config.raised(3).memory_bytes == config.raised(3).memory_limit == 8 << 30
    assert config.raised(2).walltime == 8100
    assert place.make({"memory": "1G", "on_oom": "2x", "time": "1h"}).raised(2).time == "1h"


@pytest.mark.parametrize(("key", "needed"), [("on_oom", "memory"), ("on_walltime", "time")])
def test_what_is_raised_must_be_said(place: Place, key: str, needed: str) -> None:
    assert place.refuse({key: "2x"}) == f"{key} raises what {needed} says: give {needed} too"
    assert getattr(place.make({key: "2x", needed: "2000000"}), key) == "2x"


@pytest.mark.parametrize(
    ("config", "scheduler", "python"),
    [
        (Config(), "gridengine", "/usr/bin/python3"),
        (Config(host="fear"), "gridengine", "/usr/bin/python3"),
        (Config(host="fear"), "local", "/usr/bin/python3"),
        (Config(shell="/usr/bin/env python3"), "gridengine", "/usr/bin/env python3"),
        (Config(shell="/usr/bin/env python3"), "local", "/usr/bin/env python3"),
        (Config(shell="'/my py/python' -I $(id)"), "local", "'/my py/python' -I '$(id)'"),
        (Config(shell="~/py/bin/python -I"), "gridengine", '"$HOME"/py/bin/python -I'),
        (Config(shell="$HOME/my\\ py/python"), "gridengine", "\"$HOME\"/'my py/python'"),
    ],
)
def test_python(config: Config, scheduler: str, python: str) -> None:
    assert config.command(scheduler) == python


@pytest.mark.parametrize(
    ("executable", "python"),
    [("/opt/py/bin/python", "/opt/py/bin/python"), ("/my py/python", "'/my py/python'"), ("", "/usr/bin/python3")],
)
def test_python_here(monkeypatch: pytest.MonkeyPatch, executable: str, python: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert Config().command("local") == python


def test_import_stays_cheap() -> None:
    program = "import sys, sheepdog.config; print([m for m in ('tomllib', 'difflib', 'shutil') if m in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-S", "-c", program], env=environ, capture_output=True, check=True)
    assert output.stdout.strip() == b"[]"
