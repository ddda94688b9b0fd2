import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sheepdog.config.config import CHECKS, TASK_VARIABLES, Config, choose_scheduler, make_config, parse_size, parse_time
from sheepdog.errors import ConfigError, SchedulerError
from tests.faults import fault


class Place:
    """A project's directory and a home directory, both empty at first."""

    def __init__(self, root: Path) -> None:
        self.project = root / "project" / "sheepdog.toml"
        self.user = root / "home" / ".config" / "sheepdog" / "config.toml"
        for path in (self.project, self.user):
            path.parent.mkdir(parents=True)

    def make(self, config=None, **environ) -> Config:
        return make_config(config, environ=environ, directory=self.project.parent, home=self.user.parent.parent.parent)

    def refuse(self, config=None, **environ) -> str:
        with pytest.raises(ConfigError) as caught:
            self.make(config, **environ)
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


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
        "shell": None,
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
        "tasks_per_child": None,
        "trusted": True,
    }


def test_every_key_has_a_check() -> None:
    assert list(CHECKS) == [field.name for field in dataclasses.fields(Config)]


def test_a_config_passes_through_as_is(place: Place) -> None:
    config = Config(port=8000)
    assert place.make(config, SHEEPDOG_PORT="9000") is config


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


@pytest.mark.parametrize("config", [5, ["host"], b"fear", True])
def test_what_is_no_config(place: Place, config: object) -> None:
    message = place.refuse(config)
    assert repr(config) in message
    assert "a dict of keys, the name of a profile, a Config" in message


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
    ("shell", "/usr/bin/env python3", "/usr/bin/env python3"),
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
    ("tasks_per_child", 1, 1),
    ("trusted", False, False),
]


@pytest.mark.parametrize(("key", "given", "kept"), ACCEPTED)
def test_accepted(place: Place, key: str, given: object, kept: object) -> None:
    value = getattr(place.make({key: given}), key)
    assert value == kept
    assert type(value) is type(kept)


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
    *[("localhost", value, "this machine's name") for value in ("", "-x", "me@here", "a b", 5)],
    *[("shell", value, LINE) for value in ("", " ", "python3\n", "a\0", 5)],
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
    ("text", "size"),
    [("7", 7), ("1k", 1024), ("1K", 1024), ("3m", 3 * 2**20), ("2G", 2**31), ("2g", 2**31), ("1T", 2**40)],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "2\u212a", "\u0662", "1\n", "9" * 5000])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number of bytes"):
        parse_size(text)


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
    ("text", "seconds"),
    [("7", 7), ("7s", 7), ("2m", 120), ("2H", 7200), ("1d", 86400), ("1:30:00", 5400), ("100:0:1", 360_001)],
)
def test_parse_time(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


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


def test_gives() -> None:
    config = Config(ge_opts=("-wd $HOME/x", "-j y -o $HOME/out"))
    assert config.gives("-wd", "-cwd")
    assert config.gives("-j")
    assert config.gives("-o")
    assert not config.gives("-e")
    assert not config.gives("-cwd")
    assert not Config().gives("-wd")


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
    assert config.python(scheduler) == python


@pytest.mark.parametrize(
    ("executable", "python"),
    [("/opt/py/bin/python", "/opt/py/bin/python"), ("/my py/python", "'/my py/python'"), ("", "/usr/bin/python3")],
)
def test_python_here(monkeypatch: pytest.MonkeyPatch, executable: str, python: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert Config().python("local") == python


# Unknown keys


def test_an_unknown_key_with_a_near_one(place: Place) -> None:
    assert place.refuse({"prot": 1}) == "'prot' is not a known key; did you mean port?"
    assert "did you mean profile?" in place.refuse({"Profile": "fear"})


def test_an_unknown_key_with_no_near_one(place: Place) -> None:
    message = place.refuse({"zzz": 1})
    assert message.startswith("'zzz' is not a known key; the known ones are cpus, dbfile, fail_fast, ge_opts, ")
    assert all(key in message for key in [*CHECKS, "profile"])


@pytest.mark.parametrize("key", [3, None, b"port", ("port",)])
def test_a_key_that_is_no_string(place: Place, key: object) -> None:
    assert place.refuse({key: 1}) == f"a key of the configuration is {key!r}; it must be a string"


# The environment


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("HOST", "fear", "fear"),
        ("SSH_PORT", "2222", 2222),
        ("PORT", " 8000 ", 8000),
        ("WORKERS", "7", 7),
        ("NAME", "7up", None),
        ("MEMORY", "2g", "2G"),
        ("MEMORY", "2147483648", "2147483648"),
        ("PATIENCE", "60", 60.0),
        ("LEASE", "1e2", 100.0),
        ("POLL_INTERVAL", "2.5", 2.5),
        ("TIME", "90m", "90m"),
        ("TIMEOUT", "2.5", 2.5),
        ("RETRIES", "2", 2),
        ("TRUSTED", "no", False),
        ("TRUSTED", "True", True),
        ("GE_OPTS", "-l h_rt=60", ("-l h_rt=60",)),
        ("GE_OPTS", "-cwd; -l h_rt=60 ;", ("-cwd", "-l h_rt=60")),
        ("GE_OPTS", "\n-cwd\n-l h_rt=60\r\n", ("-cwd", "-l h_rt=60")),
        ("PORT", "many", None),
        ("PORT", "80.0", None),
        ("PORT", "9" * 5000, None),
        ("WORKERS", "0", None),
        ("LEASE", "long", None),
        ("LEASE", "nan", None),
        ("GE_OPTS", "cwd", None),
        ("MEMORY", "2X", None),
        ("RETRIES", "some", None),
        ("TRUSTED", "perhaps", None),
    ],
)
def test_a_variable(place: Place, variable: str, text: str, value: object) -> None:
    environ = {f"SHEEPDOG_{variable}": text}
    key = variable.lower()
    if value is None:
        message = place.refuse(**environ)
        assert message.startswith(f"{key} in the variable SHEEPDOG_{variable} is ")
        assert "it must " in message
    else:
        assert getattr(place.make(**environ), key) == value


def test_every_key_has_a_variable(place: Place) -> None:
    for key in CHECKS:
        with pytest.raises(ConfigError, match=f"SHEEPDOG_{key.upper()}"):
            place.make(**{f"SHEEPDOG_{key.upper()}": "\0"})


def test_an_empty_variable_is_not_set(place: Place) -> None:
    assert place.make(SHEEPDOG_PORT="", SHEEPDOG_PROFILE="", SHEEPDOG_WHATEVER="") == Config()


def test_the_variables_of_a_task_are_ignored(place: Place) -> None:
    assert TASK_VARIABLES == ("SHEEPDOG_REQUEST_ID", "SHEEPDOG_TASK_INDEX", "SHEEPDOG_ATTEMPT")
    assert place.make(**dict.fromkeys(TASK_VARIABLES, "1"), PORT="1", OTHER_PORT="1") == Config()


def test_an_unknown_variable(place: Place) -> None:
    assert place.refuse(SHEEPDOG_HSOT="x") == ("'SHEEPDOG_HSOT' is not a known variable; did you mean SHEEPDOG_HOST?")
    assert "did you mean SHEEPDOG_HOST?" in place.refuse(SHEEPDOG_host="x")
    assert "the known ones are SHEEPDOG_CPUS, " in place.refuse(SHEEPDOG_ZZZ="x")


# The files


def test_precedence(place: Place) -> None:
    """Take the sources away one by one, the strongest first; each time the next one shows."""
    place.project.write_text("port = 3\n[profiles.fear]\nport = 5")
    place.user.write_text("port = 2\n[profiles.fear]\nport = 4")
    profile = {"profile": "fear"}
    assert place.make({"port": 7, **profile}, SHEEPDOG_PORT="6").port == 7
    assert place.make(profile, SHEEPDOG_PORT="6").port == 6
    assert place.make(profile).port == 5
    place.project.write_text("port = 3")
    assert place.make(profile).port == 4
    place.user.write_text("port = 2\n[profiles.fear]")
    assert place.make(profile).port == 3
    place.project.unlink()
    assert place.make(profile).port == 2
    place.user.unlink()
    assert place.make().port is None


def test_sources_are_merged_key_by_key(place: Place) -> None:
    place.user.write_text('host = "a"\nworkers = 1\n[profiles.fear]\nssh_user = "b"\nname = "n1"')
    place.project.write_text('ssh_port = 3\nge_opts = ["-cwd"]\n[profiles.fear]\nname = "n2"')
    assert place.make({"profile": "fear", "lease": 9}, SHEEPDOG_MEMORY="2G") == Config(
        host="a",
        workers=1,
        ssh_user="b",
        name="n2",
        ssh_port=3,
        ge_opts=("-cwd",),
        lease=9,
        memory="2G",
    )


def test_a_list_is_replaced_not_joined(place: Place) -> None:
    place.project.write_text('ge_opts = ["-cwd"]')
    assert place.make({"ge_opts": ["-j y"]}).ge_opts == ("-j y",)


def test_none_in_the_call_undoes_what_a_file_says(place: Place) -> None:
    place.project.write_text('host = "fear"')
    assert place.make({"host": None}).host is None


def test_only_the_value_that_wins_is_checked(place: Place) -> None:
    place.project.write_text("port = 70000")
    assert place.make({"port": 80}).port == 80


def test_a_profile_is_named_by_the_call_or_by_a_variable(place: Place) -> None:
    place.project.write_text("[profiles.fear]\nport = 1\n[profiles.loathing]\nport = 2")
    assert place.make().port is None
    assert place.make("fear").port == 1
    assert place.make({"profile": "fear"}).port == 1
    assert place.make(SHEEPDOG_PROFILE="loathing").port == 2
    assert place.make("fear", SHEEPDOG_PROFILE="loathing").port == 1
    assert place.make({"profile": None}, SHEEPDOG_PROFILE="loathing").port is None


def test_an_unknown_profile(place: Place) -> None:
    place.project.write_text("[profiles.b]\n")
    place.user.write_text("[profiles.a]\n[profiles.b]\n")
    assert place.refuse("fear") == (
        f"profile is 'fear'; the known ones are a, b (in {place.user} and {place.project}). "
        'A host is written {"host": "fear"}'
    )
    assert place.refuse(SHEEPDOG_PROFILE="c").startswith("profile in the variable SHEEPDOG_PROFILE is 'c'; ")


def test_an_unknown_profile_where_there_are_none(place: Place) -> None:
    assert "the known ones are none (in " in place.refuse("fear")


@pytest.mark.parametrize("profile", [3, ["fear"], True])
def test_a_profile_that_is_no_name(place: Place, profile: object) -> None:
    assert place.refuse({"profile": profile}).startswith(f"profile is {profile!r}; it must be the name ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 70000", "port in {path} is 70000; it must be"),
        ("ge_opts = '-cwd'", "ge_opts in {path} is '-cwd'; it must be a list"),
        ("port = 2020-01-01", "port in {path} is datetime.date(2020, 1, 1); it must be"),
        ("[port]\na = 1", "port in {path} is {{'a': 1}}; it must be"),
        ("prot = 1", "'prot' in {path} is not a known key; did you mean port?"),
        ("[profile.fear]", "'profile' in {path} is not a known key; did you mean profiles?"),
        ("[profiles.fear]\nport = 0", "port in [profiles.fear] of {path} is 0; it must be"),
        ("[profiles.fear]\nprot = 1", "'prot' in [profiles.fear] of {path} is not a known key; did you mean port?"),
        ("[profiles.fear]\nprofiles = 1", "'profiles' in [profiles.fear] of {path} is not a known key"),
        ("profiles = 3", "profiles in {path} is 3; it must be tables: [profiles.NAME]"),
        ("[profiles]\nfear = 3", "the profile fear in {path} is 3; it must be a table"),
        ("port = 1\nport =", "{path} is not valid TOML: Invalid value (at line 2"),
        ("port = 1\n\nport = 2", "{path} is not valid TOML: Cannot overwrite a value (at line 3"),
        ("port = " + "9" * 5000, "{path} is not valid TOML: "),
    ],
)
@pytest.mark.parametrize("which", ["project", "user"])
def test_a_wrong_file(place: Place, which: str, text: str, message: str) -> None:
    path = getattr(place, which)
    path.write_text(text)
    config = "fear" if "[profiles.fear]" in text else None
    assert place.refuse(config).startswith(message.format(path=path))


def test_a_file_that_is_not_utf8(place: Place) -> None:
    place.project.write_bytes(b'# one\nname = "\xe4"\n')
    assert place.refuse() == f"{place.project} is not UTF-8 text (at line 2)"


def test_a_file_that_cannot_be_read(place: Place) -> None:
    place.project.mkdir()  # root may read whatever chmod forbids; but no one a directory
    assert place.refuse() == f"cannot read {place.project}: Is a directory"


def test_a_parent_that_is_no_directory_holds_no_file(place: Place) -> None:
    place.user.parent.rmdir()
    place.user.parent.write_text("")
    assert place.make() == Config()


def test_xdg_config_home(place: Place, tmp_path: Path) -> None:
    place.user.write_text("port = 1")
    other = tmp_path / "xdg" / "sheepdog" / "config.toml"
    other.parent.mkdir(parents=True)
    other.write_text("port = 2")
    assert place.make(XDG_CONFIG_HOME=str(tmp_path / "xdg")).port == 2
    assert place.make(XDG_CONFIG_HOME="").port == 1
    assert place.make(XDG_CONFIG_HOME="xdg").port == 1


def test_what_this_process_says(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("SHEEPDOG_")]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(place.user.parent.parent.parent))
    monkeypatch.setenv("SHEEPDOG_NAME", "env")
    monkeypatch.chdir(place.project.parent)
    place.project.write_text("port = 1")
    place.user.write_text("workers = 2")
    assert make_config() == Config(name="env", port=1, workers=2)


def test_a_user_without_a_home(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    place.project.write_text("port = 1")
    assert make_config(environ={}, directory=place.project.parent).port == 1


# The scheduler

NO_HOST = "no host is given, {}, and sbatch is not on PATH"


@pytest.mark.parametrize(
    ("config", "qsub", "environ", "scheduler", "reason"),
    [
        (Config(scheduler="local"), True, {"SGE_ROOT": "/sge"}, "local", "the configuration says so"),
        (Config(scheduler="local", host="fear"), False, {}, "local", "the configuration says so"),
        (Config(scheduler="gridengine"), False, {}, "gridengine", "the configuration says so"),
        (Config(host="fear"), False, {}, "gridengine", "the host fear is given"),
        (Config(), True, {"SGE_ROOT": "/sge"}, "gridengine", "qsub is on PATH and SGE_ROOT is set"),
        (Config(), True, {}, "local", NO_HOST.format("SGE_ROOT is not set")),
        (Config(), True, {"SGE_ROOT": ""}, "local", NO_HOST.format("SGE_ROOT is not set")),
        (Config(), False, {"SGE_ROOT": "/sge"}, "local", NO_HOST.format("qsub is not on PATH")),
    ],
)
def test_choose_scheduler(config: Config, qsub: bool, environ: dict[str, str], scheduler: str, reason: str) -> None:
    def which(program: str) -> str | None:
        return "/usr/bin/qsub" if qsub and program == "qsub" else None

    assert choose_scheduler(config, environ, which) == (scheduler, reason)


def test_grid_engine_comes_before_slurm(tmp_path: Path) -> None:
    """And where there are only Slurm's commands, there is no Slurm."""
    programs = {"sbatch": str(tmp_path / "bin" / "sbatch")}
    commands_only = choose_scheduler(Config(), {}, programs.get)
    assert commands_only[0] == "local"
    assert "qsub is not on PATH, and sbatch is on PATH, but no slurm.conf is found" in commands_only[1]
    conf = tmp_path / "etc" / "slurm.conf"
    conf.parent.mkdir()
    conf.touch()
    slurm = "slurm", f"sbatch is on PATH with {conf}, and qsub is not on PATH"
    assert choose_scheduler(Config(), {}, programs.get) == slurm
    assert choose_scheduler(Config(), {"SLURM_CONF": str(conf)}, {"sbatch": "/usr/bin/sbatch"}.get) == slurm
    programs["qsub"] = "/usr/bin/qsub"
    assert choose_scheduler(Config(), {}, programs.get)[0] == "slurm"
    assert choose_scheduler(Config(), {"SGE_ROOT": "/sge"}, programs.get)[0] == "gridengine"


@pytest.mark.parametrize(
    ("programs", "scheduler", "reason"),
    [
        ({"qsub", "qconf"}, "gridengine", "fear has qsub"),
        ({"qsub", "qconf", "sbatch"}, "gridengine", "fear has qsub"),
        ({"qsub"}, "gridengine", "fear has qsub"),
        ({"sbatch"}, "slurm", "fear has sbatch and no qsub"),
        ({"qsub", "sbatch"}, "slurm", "fear has sbatch and no qconf"),
    ],
)
def test_a_host_says_what_it_has(programs: set[str], scheduler: str, reason: str) -> None:
    """Slurm comes with a qsub of its own."""
    assert choose_scheduler(Config(host="fear"), on_host=lambda: programs) == (scheduler, reason)
    asked = []
    assert choose_scheduler(Config(host="fear", scheduler="local"), on_host=lambda: asked)[0] == "local"


def test_a_host_without_a_scheduler() -> None:
    with pytest.raises(SchedulerError, match=r"no qsub on fear, and no sbatch\. .*`ssh fear squeue` works"):
        choose_scheduler(Config(host="fear"), on_host=lambda: ())


def test_choose_scheduler_looks_at_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SGE_ROOT", "/sge")
    assert choose_scheduler(Config())[0] == "local"
    qsub = tmp_path / "qsub"
    qsub.write_text("#!/bin/sh\n")
    qsub.chmod(0o755)
    assert choose_scheduler(Config())[0] == "gridengine"


def test_import_stays_cheap() -> None:
    program = "import sys, sheepdog.config; print([m for m in ('tomllib', 'difflib', 'shutil') if m in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-S", "-c", program], env=environ, capture_output=True, check=True)
    assert output.stdout.strip() == b"[]"
