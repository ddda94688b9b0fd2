"""The archives that travel to the cluster: the worker, and what it needs to load a function."""

import functools
import importlib.util
import io
import marshal
import zipfile
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from .. import client

WORKER = "_sheepdog_worker"
"""The worker's package over there: a name that no module of a user's has."""


@functools.cache
def worker_archive() -> bytes:
    """Return the worker as one file that Python runs."""
    files = _modules(Path(client.__file__).parent, WORKER)
    start = {f"__main__.{ending}": files.pop(f"{WORKER}/__main__.{ending}") for ending in ("pyc", "py")}
    return archive({**start, **files})


@functools.cache
def cloudpickle_archive() -> bytes:
    """Return this interpreter's own cloudpickle, to import from."""
    import cloudpickle

    return archive(_modules(Path(cloudpickle.__file__).parent, "cloudpickle"))


def drmaa_archive() -> bytes | None:
    """Return the program that asks DRMAA, and this interpreter's own drmaa, as one file that Python runs.

    None if there is no drmaa. It is not imported here: that would load the library.
    """
    found = importlib.util.find_spec("drmaa")
    if found is None or found.origin is None:
        return None
    program = Path(__file__).with_name("session.py")
    return archive({"__main__.py": program.read_bytes(), **_modules(Path(found.origin).parent, "drmaa")})


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive: for the same files, the same bytes. It is not compressed: a worker may lack zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _modules(folder: Path, package: str) -> dict[str, bytes]:
    """Return a package's files: each source, and before it what this Python made of it.

    A worker with the same Python need not compile; any other passes over what it cannot read. The format is that of
    https://peps.python.org/pep-0552/, not checked against the source.
    """
    files = {}
    for file in sorted(folder.rglob("*.py")):
        name, source = f"{package}/{file.relative_to(folder).as_posix()}", file.read_bytes()
        code = SourceFileLoader(file.stem, str(file)).get_code(file.stem)
        assert code is not None  # it has a source
        head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
        files[f"{name}c"] = head + marshal.dumps(_named(code, name), 2)  # of version 2: the same bytes every time
        files[name] = source
    return files


def _named(code: CodeType, name: str) -> CodeType:
    """Return a code, and all that is in it, that says it is from a file."""
    inner = tuple(_named(value, name) if isinstance(value, CodeType) else value for value in code.co_consts)
    return code.replace(co_filename=name, co_consts=inner)
