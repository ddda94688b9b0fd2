"""Machines on which commands can be run, and how files get there."""

from .hosts import Host, LocalHost, make_host
from .ssh import SSHHost

__all__ = ["Host", "LocalHost", "SSHHost", "make_host"]
