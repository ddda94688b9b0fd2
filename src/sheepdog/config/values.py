"""What the texts of values mean: sizes in bytes, times in seconds, factors."""

from __future__ import annotations

import re

SIZE = 'a whole number of bytes, or one with a unit k, m, g or t, such as "2G"'
TIME = 'a whole number of seconds, or one with a unit s, m, h or d, such as "2h", or "2:00:00"'


def parse_size(text: str) -> int:
    """Turn a size such as "2G" into bytes. Units are k, m, g and t in either case, powers of 1024."""
    match = re.fullmatch("([0-9]{1,18})([kKmMgGtT]?)", text)
    size = int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0
    if not 0 < size < 2**63:  # what setrlimit takes
        raise ValueError(f"must be {SIZE}")
    return size


def parse_time(text: str) -> int:
    """Turn a time such as "90m", "1:30:00" or "5400" into seconds. Units are s, m, h and d."""
    match = re.fullmatch("([0-9]{1,9})([smhdSMHD]?)", text)
    clock = re.fullmatch("([0-9]{1,6}):([0-5]?[0-9]):([0-5]?[0-9])", text)
    seconds = 0
    if match:
        seconds = int(match[1]) * {"S": 1, "M": 60, "H": 3600, "D": 86400}[match[2].upper() or "S"]
    elif clock:
        seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + int(clock[3])
    if seconds < 1:
        raise ValueError(f"must be {TIME}")
    return seconds


def parse_factor(text: str) -> float:
    """Turn a factor such as "2x" into a number."""
    match = re.fullmatch("([0-9]{1,2}(?:[.][0-9]{1,2})?)x", text)
    if match is None or not 1 < float(match[1]) <= 10:
        raise ValueError('must be a factor above 1 and at most 10, such as "2x"')
    return float(match[1])
