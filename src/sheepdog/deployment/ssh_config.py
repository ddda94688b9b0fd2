"""A configuration for ssh, in which the user's own words win."""

import glob
import re
from collections.abc import Sequence

from ..errors import ConfigError


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
