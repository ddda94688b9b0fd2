"""The configuration that is written for ssh."""

import pytest

from sheepdog.deployment.ssh_config import ssh_config
from sheepdog.errors import ConfigError


def test_the_users_files_come_first() -> None:
    assert ssh_config("me@head", ["/a [b]/c"], 22, "me", ["/k"]) == (
        'Include "/a [[]b]/c"\nMatch originalhost "head"\n    Port 22\n    User "me"\n    IdentityFile "/k"\n'
    )


@pytest.mark.parametrize("bad", ["a\nProxyCommand x", 'a"b', "a\0"], ids=repr)
def test_values_that_cannot_be_quoted(bad: str) -> None:
    with pytest.raises(ConfigError, match="ssh_user"):
        ssh_config("head", [], None, bad, [])
    with pytest.raises(ConfigError, match="ssh_keyfile"):
        ssh_config("head", [], None, None, [bad])
