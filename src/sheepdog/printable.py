"""Text of others, made fit for terminals and logs: the one function that what comes from a cluster passes."""

from __future__ import annotations

import logging
import re

BELL, ESCAPE = "\x07", "\x1b"
TEXT = r"[^\x07\x1b\x9c\n]{0,4096}"  # of a title, say
SEQUENCES = re.compile(
    rf"(?:{ESCAPE}[\]PX^_]|[\x9d\x90\x98\x9e\x9f]){TEXT}(?:{BELL}|{ESCAPE}\\|\x9c)"  # titles, links, and their kin
    rf"|(?:{ESCAPE}\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, and what moves the cursor
    rf"|{ESCAPE}[ -/]+[0-~]"
    rf"|{ESCAPE}[\x30-\x7e]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # the last ones turn the direction
)


def printable(text: str) -> str:
    """Return a text without escapes of terminals and control characters; newline and tab stay.

    A carriage return is a new line.
    """
    if text.isprintable():
        return text
    return SEQUENCES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def make_printable(record: logging.LogRecord) -> bool:
    """Make what a log is told printable; a filter of loggers and handlers."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True


class Printable(logging.Formatter):
    """Formats what a log is told, with its tracebacks, and makes it printable."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a log for a record."""
        return printable(super().format(record))
