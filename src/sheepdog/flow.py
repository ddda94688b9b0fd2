"""The name of old of front.imap."""

from .front.imap import Results

__all__ = ["Results"]
