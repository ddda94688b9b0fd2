"""What a host keeps for the next request, for its user to see and to remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Config, make_config
from ..deployment import kept as there
from ..deployment.kept import Kept
from ..schedulers import submit


def kept(config: Mapping[str, Any] | str | Config | None = None) -> tuple[Kept, ...]:
    """Return what the host keeps below ssh_dir: own files, interpreters and packages, the last used first.

    Each has kind, name, bytes, last_used and in_use, and a method remove(). Raises HostError if the host cannot be
    asked, ConfigError for a wrong configuration.
    """
    settings = make_config(config)
    return there.look(submit.host_of(settings, interactive=True), settings.ssh_dir)
