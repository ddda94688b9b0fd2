"""The archives that travel to the cluster: the worker, and what it needs to load a function."""

import importlib.util
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from .. import client

WORKER = "_sheepdog_worker"
"""The worker's package over there: a name that no module of a user's has."""


def worker_archive() -> bytes:
    """Return the worker as one file that Python runs."""
    files = {f"{WORKER}/{name}": text for name, text in _sources(Path(client.__file__).parent).items()}
    return archive({"__main__.py": files.pop(f"{WORKER}/__main__.py"), **files})


def cloudpickle_archive() -> bytes:
    """Return this interpreter's own cloudpickle, to import from."""
    import cloudpickle

    folder = Path(cloudpickle.__file__).parent
    return archive({f"cloudpickle/{name}": text for name, text in _sources(folder).items()})


def drmaa_archive() -> bytes | None:
    """Return the program that asks DRMAA, and this interpreter's own drmaa, as one file that Python runs.

    None if there is no drmaa. It is not imported here: that would load the library.
    """
    found = importlib.util.find_spec("drmaa")
    if found is None or found.origin is None:
        return None
    program = Path(__file__).with_name("session.py")
    files = {f"drmaa/{name}": text for name, text in _sources(Path(found.origin).parent).items()}
    return archive({"__main__.py": program.read_bytes(), **files})


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive: for the same files, the same bytes. It is not compressed: a worker may lack zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _sources(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*.py"))}
