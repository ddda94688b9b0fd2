"""Functions that tests run as tasks, here or from programs of their own."""

from pathlib import Path


def sleepy(i: int, mark: str) -> int:
    """Take a moment, leave a line for the run, and return the square."""
    import pathlib
    import time

    time.sleep(0.002)
    with pathlib.Path(mark).open("a") as file:
        file.write(f"{i}\n")
    return i * i


def gated(i: int, directory: str, free: int) -> int:
    """Return at once if i is small; else when there is a file "go"; note each run."""
    import os
    import pathlib
    import time

    with open(os.path.join(directory, "ran"), "a") as file:
        file.write(f"{i}\n")
    while i >= free and not pathlib.Path(directory, "go").exists():
        time.sleep(0.01)
    return i


def wait_for(path: Path, said: Path | None = None) -> int:
    """Say that it runs, and by whom; return when there is a file."""
    import os
    import time

    if said is not None:
        said.write_text(str(os.getpid()))
    while not path.exists():
        time.sleep(0.01)
    return os.getpid()
