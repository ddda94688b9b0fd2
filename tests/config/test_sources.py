"""The sources of a configuration: the call, the environment, the files and their profiles."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sheepdog.config import Config, make_config
from sheepdog.config.config import KEYS
from sheepdog.config.sources import TASK_VARIABLES
from sheepdog.errors import ConfigError
from tests.config.conftest import Place
from tests.faults import fault
from tests.people import AS_ROOT

# The call


def test_a_config_passes_through_as_is(place: Place) -> None:
    config = Config(port=8000)
    assert place.make(config, SHEEPDOG_PORT="9000") is config


@pytest.mark.parametrize("config", [5, ["host"], b"fear", True])
def test_what_is_no_config(place: Place, config: object) -> None:
    message = place.refuse(config)
    assert repr(config) in message
    assert "a dict of keys, the name of a profile, a Config" in message


# Unknown keys


def test_an_unknown_key_with_a_near_one(place: Place) -> None:
    assert place.refuse({"prot": 1}) == "'prot' is not a known key; did you mean port?"
    assert "did you mean profile?" in place.refuse({"Profile": "fear"})


def test_an_unknown_key_with_no_near_one(place: Place) -> None:
    message = place.refuse({"zzz": 1})
    assert message.startswith("'zzz' is not a known key; the known ones are cpus, dbfile, env, fail_fast, ")
    assert all(key in message for key in [*KEYS, "profile"])


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
        ("SETUP", "module load a;b\n\nulimit -c 0\n", ("module load a;b", "ulimit -c 0")),
        ("ENV", "A=1\nB=a = b\n", (("A", "1"), ("B", "a = b"))),
        ("ENV", "A", None),
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
    for key in KEYS:
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
    assert place.refuse().startswith(f"the configuration is not read: {place.project} is not a file")


@fault(51, "a configuration file of another user's, or that others can write", promise="it is refused with a sentence")
@pytest.mark.parametrize("file", ["project", "user"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda path: os.chown(path, 54321, 54321), "belongs to another user (54321)", marks=AS_ROOT),
        (lambda path: path.chmod(0o666), "can be changed by others (-rw-rw-rw-)"),
    ],
)
def test_a_file_of_others(place: Place, file: str, make: Callable[[Path], None], words: str) -> None:
    path: Path = getattr(place, file)
    path.write_text('shell = "/tmp/evil"\n')
    make(path)
    assert place.refuse().startswith(f"the configuration is not read: {path} {words}")
    assert "shell" not in place.refuse({"host": "fear"})


def test_a_link(place: Place) -> None:
    """In the project it may be anybody's. In one's home, what it leads to counts."""
    kept = place.user.with_name("kept.toml")
    kept.write_text('host = "fear"\n')
    place.user.symlink_to(kept)
    assert place.make().host == "fear"
    kept.chmod(0o622)
    assert "can be changed by others" in place.refuse()
    place.user.unlink()
    place.project.symlink_to(kept)
    assert "can be changed by others" in place.refuse()
    kept.chmod(0o600)
    assert place.make().host == "fear"


def test_what_has_set_the_weighty_keys_is_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.project.write_text('shell = "/opt/python"\nworkers = 2\n[profiles.fear]\nhost = "fear"\n')
    place.user.write_text('dbfile = "x.sqlite"\nshell = "/other"\nsetup = ["true"]\nenv = {KEY = "secret"}\n')
    with caplog.at_level(logging.INFO, "sheepdog"):
        place.make("fear")
        place.make({"host": "near", "shell": "/mine", "dbfile": "y.sqlite"})
        place.make({"scheduler": "local"}, SHEEPDOG_SHELL="/env")
    assert caplog.messages == [
        f"host is 'fear', in [profiles.fear] of {place.project}",
        f"shell is '/opt/python', in {place.project}",
        f"setup is ['true'], in {place.user}",
        f"env is ['KEY'], in {place.user}",
        f"dbfile is 'x.sqlite', in {place.user}",
        f"setup is ['true'], in {place.user}",
        f"env is ['KEY'], in {place.user}",
        "shell is '/env', in the variable SHEEPDOG_SHELL",
        f"setup is ['true'], in {place.user}",
        f"env is ['KEY'], in {place.user}",
        f"dbfile is 'x.sqlite', in {place.user}",
    ]


@pytest.mark.parametrize(
    ("call", "host"),
    [
        ({"scheduler": "local"}, None),
        ({"scheduler": "local", "host": "near"}, "near"),
        ({"scheduler": "local", "profile": "fear"}, None),
        ({"scheduler": "gridengine"}, "everywhere"),
        ({}, "everywhere"),
        ("fear", "fear"),
    ],
)
def test_the_local_scheduler_of_a_call_is_this_machine(place: Place, call: Any, host: str | None) -> None:
    place.project.write_text('host = "project"\n[profiles.fear]\nhost = "fear"\n')
    environ = {} if call == "fear" else {"SHEEPDOG_HOST": "everywhere"}
    assert place.make(call, **environ).host == host


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
