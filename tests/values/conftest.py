"""What the tests of this package share: another Python."""

import io
import zipfile
from pathlib import Path

import pytest

from sheepdog.client import PICKLE
from sheepdog.schedulers.archives import cloudpickle_archive, worker_archive
from tests.values.far import Far


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What travels, unpacked: so the Pythons there compile it once."""
    directory = tmp_path_factory.mktemp("archives")
    for name, archive in (("cloudpickle", cloudpickle_archive()), ("worker", worker_archive())):
        zipfile.ZipFile(io.BytesIO(archive)).extractall(directory / name)
    return directory


@pytest.fixture
def far(archives: Path, tmp_path: Path) -> Far:
    """A bare Python."""
    return Far(archives, tmp_path, PICKLE)
