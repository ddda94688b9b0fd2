"""What the tests of the worker may ask for."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sheepdog.client.parent.child import Child
from sheepdog.schedulers.archives import cloudpickle_archive
from sheepdog.values.serialisation import serialise_function
from tests.client.children import Start, by_value, target
from tests.client.shepherd import Shepherd


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a child; all of them are ended at the end."""
    (tmp_path / "cloudpickle.zip").write_bytes(cloudpickle_archive())
    children: list[Child] = []

    def start(f: Any = target, ns: Any = None, **secret: Any) -> Child:
        secret = {"directory": str(tmp_path), "request": 12, "max_value": 10**9, **secret}
        children.append(Child(secret, *serialise_function(f, ns, by_value)))
        return children[-1]

    yield start
    for child in children:
        if not child.capture.file.closed:
            child.kill()


@pytest.fixture
def shepherd(tmp_path: Path) -> Iterator[Shepherd]:
    shepherd = Shepherd(tmp_path / "job")
    yield shepherd
    shepherd.close()


@pytest.fixture(params=range(6, 15), ids="3.{}".format)
def each_python(request: pytest.FixtureRequest) -> Path:
    """Each Python on which the worker runs, if it is beside the one that runs the tests."""
    pythons = sorted(Path(sys.base_prefix).parent.glob(f"3.{request.param}.*/bin/python3"))
    if not pythons:
        pytest.skip(f"no Python 3.{request.param} beside the one that runs the tests")
    return pythons[-1]
