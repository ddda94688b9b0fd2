"""How to run: the options a user may give, from where they come, and what each must be."""

from .config import Config
from .sources import make_config

__all__ = ["Config", "make_config"]
