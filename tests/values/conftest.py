"""What the tests of this package share: another Python."""

import io
import zipfile
from pathlib import Path

import pytest

from sheepdog.schedulers.archives import cloudpickle_archive, worker_archive
from sheepdog.values.serialisation import MAKERS
from tests.values.far import Far


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What travels, unpacked: so the Pythons there compile it once."""
    directory = tmp_path_factory.mktemp("archives")
    for name, archive in (("cloudpickle", cloudpickle_archive()), ("worker", worker_archive())):
        zipfile.ZipFile(io.BytesIO(archive)).extractall(directory / name)
    return directory


@pytest.fixture(params=MAKERS)
def far(archives: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Far:
    """A bare Python, reached by each form in turn."""
    return Far(archives, tmp_path, request.param)
