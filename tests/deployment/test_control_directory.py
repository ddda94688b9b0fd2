"""The private directory of ssh's sockets."""

import os
import tempfile
from pathlib import Path

import pytest

from sheepdog.deployment.control_directory import make_private
from sheepdog.errors import HostError
from tests.deployment.sshd import Far, Sshd


def test_no_directory_for_sockets(far: Far, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(sshd.log))
    long = sshd.directory / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(HostError, match=r"cannot be made .Not a directory.; .*too long a name .set XDG_RUNTIME_DIR"):
        far().run(["true"])


def test_a_directory_for_sockets_that_is_not_ours_alone(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        (made / "file").write_text("")
        (made / "link").symlink_to(directory)
        (made / "open").mkdir()
        (made / "open").chmod(0o750)
        faults = {path.name: make_private(path, False) for path in made.iterdir()}
        assert make_private(made / "new", False) is None
    assert faults["open"] == "is open to others (chmod 700 it)"
    assert faults["link"] == "is not a directory"
    assert faults["file"] == "cannot be made (File exists)"
    if os.getuid() != 0:
        assert make_private(Path("/"), False) == "belongs to somebody else"
