"""Where a configuration is made: a project's directory and a home."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sheepdog.config import Config, make_config
from sheepdog.errors import ConfigError

Given = Mapping[str, Any] | str | Config | None


class Place:
    """A project's directory and a home directory, both empty at first."""

    def __init__(self, root: Path) -> None:
        self.project = root / "project" / "sheepdog.toml"
        self.user = root / "home" / ".config" / "sheepdog" / "config.toml"
        for path in (self.project, self.user):
            path.parent.mkdir(parents=True)

    def make(self, config: Given = None, **environ: str) -> Config:
        return make_config(config, environ=environ, directory=self.project.parent, home=self.user.parent.parent.parent)

    def refuse(self, config: Any = None, **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            self.make(config, **environ)
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
