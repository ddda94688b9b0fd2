"""Text of others, made fit for terminals and logs: the one function that what comes from a cluster passes."""

from __future__ import annotations

import logging
import re

BELL, ESCAPE = "\x07", "\x1b"
TEXT = r"[^\x07\x1b\x9c\n]{0,4096}"  # of a title, say
# What shows nothing, and hides, joins or turns what is around it: Unicode's Default_Ignorable_Code_Point and
# Bidi_Control, without the variants of a sign (fe00 to fe0f); and halves of a pair, which no terminal can be sent.
UNSEEN = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff"
)
LINES = re.compile("\r\n|[\r\u2028\u2029]")
SEQUENCES = re.compile(
    rf"(?:{ESCAPE}[\]PX^_]|[\x9d\x90\x98\x9e\x9f]){TEXT}(?:{BELL}|{ESCAPE}\\|\x9c)"  # titles, links, and their kin
    rf"|(?:{ESCAPE}\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, and what moves the cursor
    rf"|{ESCAPE}[ -/]+[0-~]"
    rf"|{ESCAPE}[\x30-\x7e]"
    rf"|[\x00-\x08\x0b-\x1f\x7f-\x9f{UNSEEN}]"
)


def printable(text: str) -> str:
    """Return a text without escapes of terminals, control characters and what cannot be seen; newline and tab stay.

    A carriage return, and a separator of lines or paragraphs, is a new line.
    """
    if text.isascii() and text.isprintable():
        return text
    return SEQUENCES.sub("", LINES.sub("\n", text))


def make_printable(record: logging.LogRecord) -> bool:
    """Make what a log is told printable; a filter of loggers and handlers."""
    record.msg, record.args = printable(record.getMessage()), ()
    return True


class Printable(logging.Formatter):
    """Formats what a log is told, with its tracebacks, and makes it printable."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a log for a record."""
        return printable(super().format(record))
