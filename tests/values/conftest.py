"""What the tests of this package share: another Python."""

from pathlib import Path

import pytest

from sheepdog.schedulers.archives import cloudpickle_archive, worker_archive
from sheepdog.values.serialisation import MAKERS
from tests.values.far import Far


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("archive") / "cloudpickle.zip"
    file.write_bytes(cloudpickle_archive())
    file.with_name("client.pyz").write_bytes(worker_archive())
    return file


@pytest.fixture(params=MAKERS)
def far(archive: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Far:
    """A bare Python, reached by each form in turn."""
    return Far(archive, tmp_path, request.param)
