"""Where a configuration is made: a project's directory and a home."""

from pathlib import Path

import pytest

from sheepdog.config import Config, make_config
from sheepdog.errors import ConfigError


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
