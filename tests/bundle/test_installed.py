"""What pip and its like have put into a folder."""

from pathlib import Path

import pytest

from sheepdog.bundle.installed import Distribution, distribution_of, editables, is_installed
from tests.bundle.projects import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "folder",
        {
            "google/cloud/storage.py": "",
            "google/mine.py": "",
            "PIL/Image.py": "",
            "pillow-11.1.0.dist-info/RECORD": "PIL/Image.py,sha256=x,1\n../../bin/tool,,\n",
            "google_cloud_storage-2.0.dist-info/RECORD": '"google/cloud/storage.py",,\n',
            "six-1.16-py3.11.egg-info/installed-files.txt": "../six.py\nPKG-INFO\n",
            "broken-1.dist-info/METADATA": "",
            "mine-0.1.dist-info/RECORD": "_mine.pth,,\n",
            "mine-0.1.dist-info/direct_url.json": '{"url": "file:///home/a%20b/mine", "dir_info": {"editable": true}}',
            "odd-0.1.dist-info/direct_url.json": "[1, 2",
            "odder-0.1.dist-info/direct_url.json": "[1, 2]",
        },
    )


def test_a_file_is_of_the_distribution_that_lists_it(folder: Path) -> None:
    root = str(folder)
    assert distribution_of(f"{root}/PIL/Image.py", root) == Distribution(
        "pillow", "11.1.0", f"{root}/pillow-11.1.0.dist-info"
    )
    storage = distribution_of(f"{root}/google/cloud/storage.py", root)
    assert storage
    assert storage.version == "2.0"
    six = distribution_of(f"{root}/six.py", root)
    assert six
    assert (six.name, six.version) == ("six", "1.16")
    assert distribution_of(f"{root}/google/mine.py", root) is None
    assert distribution_of("/nowhere/at/all.py", "/nowhere/at") is None
    assert is_installed(f"{root}/PIL/Image.py", root)
    assert not is_installed(f"{root}/google/mine.py", root)


def test_what_is_installed_meanwhile_is_seen(folder: Path) -> None:
    root = str(folder)
    assert distribution_of(f"{root}/new.py", root) is None
    write(folder, {"new-1.dist-info/RECORD": "new.py,,\n"})
    assert distribution_of(f"{root}/new.py", root)


def test_an_editable_install_stands_for_a_folder(folder: Path) -> None:
    assert [(each.name, each.project) for each in editables(str(folder))] == [("mine", "/home/a b/mine")]
    assert editables("/nowhere") == []
