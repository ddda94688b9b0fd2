"""Machines on which commands can be run, and how files get there."""

from .hosts import Host, LocalHost, SSHHost, make_host

__all__ = ["Host", "LocalHost", "SSHHost", "make_host"]
