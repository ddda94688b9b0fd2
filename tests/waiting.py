"""Wait for a condition."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, timeout: float = 60) -> None:
    """Wait for a condition; TimeoutError says what did not come true."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(0.02)
