"""What the tests install: once, whoever asks at once."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.local import ROOT

QUERY = """#!/bin/sh
test -e installed && echo "openssh-server installed"
exit 0
"""
APT = """#!/bin/sh
echo "$@" >>ran
case "$*" in *install*) sleep 0.5; touch installed;; esac
"""
INSTALL = "import pathlib, sys; from tests.cluster import packages as p; p.NO_DAEMONS = pathlib.Path('none');"
INSTALL += "p.LOCK = pathlib.Path('lock'); p.install(['openssh-server'])"


def test_processes_that_need_a_package_install_it_once(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in (("dpkg-query", QUERY), ("apt-get", APT)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}

    def install(_: int) -> None:
        subprocess.run([sys.executable, "-c", INSTALL], cwd=tmp_path, env=environment, check=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(install, range(4)))
    ran = (tmp_path / "ran").read_text()
    assert ran.count("install -y") == 1, ran
    assert not (tmp_path / "none").exists()
