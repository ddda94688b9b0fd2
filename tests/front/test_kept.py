"""What a host keeps, as its user sees it."""

from pathlib import Path

import sheepdog
from tests.bundle.projects import write


def test_kept(tmp_path: Path) -> None:
    write(tmp_path, {f"far/packages/{'a' * 64}/wool.py": ""})
    [found] = sheepdog.kept({"ssh_dir": str(tmp_path / "far")})
    assert (found.kind, found.name, found.in_use) == ("packages", "a" * 64, False)
    found.remove()
    assert sheepdog.kept({"ssh_dir": str(tmp_path / "far")}) == ()
