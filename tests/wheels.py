"""Wheels made by the tests, and where uv is to find them: no package comes from elsewhere."""

import zipfile
from pathlib import Path

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"


def wheel(
    folder: Path, name: str, version: str, files: dict[str, str], needs: tuple[str, ...] = (), tag: str = "py3-none-any"
) -> Path:
    """Make a wheel of these files."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    said = METADATA.format(name=name, version=version) + "".join(f"Requires-Dist: {each}\n" for each in needs)
    content = {**files, f"{about}/METADATA": said, f"{about}/WHEEL": WHEEL.format(tag=tag)}
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in content.items():
            archive.writestr(each, text)
        record = "".join(f"{each},,\n" for each in (*content, f"{about}/RECORD"))
        archive.writestr(f"{about}/RECORD", record)
    return path


def settings(folder: Path, cache: Path) -> dict[str, str]:
    """Return the variables by which uv looks for wheels in a folder, and nowhere else."""
    return {
        "UV_FIND_LINKS": str(folder),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(cache / "uv"),
        "XDG_CACHE_HOME": str(cache),
    }
