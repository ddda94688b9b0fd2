"""Starts the worker out of its archive: `python client.pyz DIRECTORY ELEMENT`."""

import sys
import zipimport


class Archive(zipimport.zipimporter):
    """The archive as a place to import from. Python's own compiles a module to know its file, and again to run it."""

    def get_filename(self, name: str) -> str:
        """Return the file of a module."""
        return "%s/%s%s.py" % (self.archive, name.replace(".", "/"), "/__init__" if self.is_package(name) else "")


for package in ("", "/_sheepdog_worker"):
    sys.path_importer_cache[sys.path[0] + package] = Archive(sys.path[0] + package)
for package in ("wire", "link", "parent", "child"):
    path = sys.path[0] + "/_sheepdog_worker/" + package
    sys.path_importer_cache[path] = Archive(path)

from _sheepdog_worker.main import main  # type: ignore[import-not-found]  # noqa: E402 (this package, over there)

main()
