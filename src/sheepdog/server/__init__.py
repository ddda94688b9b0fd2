"""The server process: one for each database file. It answers workers, and starts, watches and clears up array jobs."""

from .life import Server, get_server

__all__ = ["Server", "get_server"]
