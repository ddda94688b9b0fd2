"""Wait for a condition."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, timeout: float = 60) -> None:
    """Wait for a condition; TimeoutError says what did not come true. The longer, the more seldom it is looked for."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        if waited > timeout:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(min(0.5, 0.02 + waited / 10))
