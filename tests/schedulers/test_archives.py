"""The archives that travel: what is in them, and that they are the same each time."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from sheepdog import client
from sheepdog.schedulers.archives import WORKER, cloudpickle_archive, worker_archive


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_worker_that_travels_is_the_package_that_is_imported_here() -> None:
    package = Path(client.__file__).parent
    found = {name.removeprefix(f"{WORKER}/"): content for name, content in contents(worker_archive()).items()}
    assert found == {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}


def test_a_python_runs_it(tmp_path: Path) -> None:
    (tmp_path / "client.pyz").write_bytes(worker_archive())
    done = subprocess.run([sys.executable, "-I", "-S", "client.pyz"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"client.pyz/{WORKER}/main.py" in done.stderr
    assert "directory, element = sys.argv[1:]" in done.stderr  # the source is there, for a traceback


def test_cloudpickle_travels_as_it_is_here() -> None:
    assert {"cloudpickle/__init__.py", "cloudpickle/cloudpickle.py"} <= set(contents(cloudpickle_archive()))


def test_for_the_same_program_the_same_bytes() -> None:
    code = "import sys; from sheepdog.schedulers.archives import *; "
    code += "sys.stdout.buffer.write(worker_archive() + cloudpickle_archive())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == worker_archive() + cloudpickle_archive()
