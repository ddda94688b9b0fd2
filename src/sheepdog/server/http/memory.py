"""Gives memory back to the system that nothing uses any more."""

from __future__ import annotations

import contextlib
import gc


def give_back() -> None:
    """Find what only holds itself, as connections of asyncio do that have ended, and have the C library give it back.

    glibc would keep it, in case the process needs it again; others do not, or cannot be asked.
    """
    import ctypes  # few servers need it

    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
