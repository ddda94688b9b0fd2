"""The archives that travel: what is in them, and that they are the same each time."""

import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sheepdog import client
from sheepdog.schedulers.archives import WORKER, archive, cloudpickle_archive, worker_archive


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_worker_that_travels_is_the_package_that_is_imported_here() -> None:
    package = Path(client.__file__).parent
    sources = {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
    found = {name.removeprefix(f"{WORKER}/"): content for name, content in contents(worker_archive()).items()}
    assert {name: content for name, content in found.items() if name.endswith(".py")} == sources
    assert found.keys() - sources.keys() == {f"{name}c" for name in sources}


@pytest.mark.parametrize("magic", [importlib.util.MAGIC_NUMBER, b"abc\n"])
def test_a_python_that_wrote_it_need_not_compile_it_and_another_does(magic: bytes, tmp_path: Path) -> None:
    files = contents(worker_archive())
    for name in files:
        if name.endswith(".pyc"):
            assert files[name].startswith(importlib.util.MAGIC_NUMBER)
            files[name] = magic + files[name][4:]
    (tmp_path / "client.pyz").write_bytes(archive(files))
    code = f"""
import sys; sys.path.insert(0, "client.pyz"); compiled = []
sys.addaudithook(lambda event, args: event == "compile" and compiled.append(args[1]))
import {WORKER}.main; print(sum("client.pyz" in str(name) for name in compiled))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 0) == (magic != importlib.util.MAGIC_NUMBER)


def test_a_python_runs_it(tmp_path: Path) -> None:
    (tmp_path / "client.pyz").write_bytes(worker_archive())
    done = subprocess.run([sys.executable, "-I", "-S", "client.pyz"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{WORKER}/main.py" in done.stderr
    assert "directory, element = sys.argv[1:]" in done.stderr  # the source is there, for a traceback


def test_cloudpickle_travels_as_it_is_here() -> None:
    assert {"cloudpickle/__init__.py", "cloudpickle/cloudpickle.py"} <= set(contents(cloudpickle_archive()))


def test_for_the_same_program_the_same_bytes() -> None:
    code = "import sys; from sheepdog.schedulers.archives import *; "
    code += "sys.stdout.buffer.write(worker_archive() + cloudpickle_archive())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == worker_archive() + cloudpickle_archive()
