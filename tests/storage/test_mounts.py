"""Kinds of file system, from the kernel's list of mounts as real machines show it."""

import os
import sys
from pathlib import Path

import pytest

from sheepdog.storage.mounts import network_file_system

# A submit host: the root was mounted after what the initramfs had mounted, and has moved below it.
SUBMIT_HOST = r"""
21 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
24 28 0:23 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw,size=1629008k,mode=755,inode64
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw,errors=remount-ro
35 28 0:31 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=8145036k
91 28 0:49 / /export/home rw,relatime shared:50 - nfs4 filer:/home rw,vers=4.2,addr=10.1.2.3,clientaddr=10.1.2.4
92 28 0:50 / /srv/nfs3 rw,relatime shared:51 - nfs filer:/old rw,vers=3,addr=10.1.2.3
95 28 0:52 / /scratch rw,relatime shared:55 master:3 propagate_from:2 - lustre 10.1.9.1@o2ib:/scratch rw,flock
96 95 8:17 / /scratch/local rw,relatime shared:56 - xfs /dev/sdb1 rw,attr2,inode64,noquota
97 28 0:53 / /gpfs/fs1 rw,relatime shared:57 - gpfs fs1 rw
98 28 0:54 / /mnt/beegfs rw,relatime shared:58 - beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/client.conf
99 28 0:55 / /mnt/My\040Share rw,relatime shared:59 - cifs //server/My\040Share rw,vers=3.1.1
100 28 0:56 / /mnt/tab\011new\012line\134slash rw,relatime - smb3 //server/x rw
101 28 0:57 / /home/anna/far rw,nosuid,nodev,relatime shared:60 - fuse.sshfs anna@far: rw,user_id=1000,group_id=1000
102 28 0:58 / /cephfs rw,relatime shared:61 - ceph 10.1.1.1:6789:/ rw,name=admin,secret=<hidden>,acl
103 28 0:59 / /mnt/c rw,noatime - 9p drvfs rw,dirsync,aname=drvfs;path=C:\;uid=1000;gid=1000,trans=fd,rfd=8,wfd=8
104 28 0:60 / /afs rw,relatime shared:62 - afs none rw
105 28 0:61 / /mnt/usb rw,nosuid,nodev,relatime shared:63 - fuseblk /dev/sdc1 rw,user_id=0
106 28 0:62 / /covered rw - nfs filer:/covered rw
107 106 254:3 / /covered rw - ext4 /dev/mapper/vg-x rw
108 28 254:4 / /below rw - ext4 /dev/mapper/vg-y rw
109 108 0:63 / /below rw - nfs filer:/below rw
110 28 0:64 / /mnt/caf\303\251 rw - nfs4 filer:/cafe rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/anna/sheepdog.sqlite", None),
        ("/tmp/x/y", None),
        ("/", None),
        ("/export/home/anna/db", "nfs4"),
        ("/export/home", "nfs4"),
        ("/export/homes/db", None),
        ("/srv/nfs3/db", "nfs"),
        ("/scratch/anna/db", "lustre"),
        ("/scratch/local/db", None),
        ("/scratch/local2/db", "lustre"),
        ("/gpfs/fs1/db", "gpfs"),
        ("/mnt/beegfs/db", "beegfs"),
        ("/mnt/My Share/db", "cifs"),
        ("/mnt/tab\tnew\nline\\slash/db", "smb3"),
        ("/home/anna/far/db", "fuse.sshfs"),
        ("/cephfs/db", "ceph"),
        ("/mnt/c/Users/anna/db", "9p"),
        ("/afs/example.org/db", "afs"),
        ("/mnt/usb/db", None),
        ("/covered/db", None),
        ("/below/db", "nfs"),
        ("/mnt/café/db", "nfs4"),
        ("/scratch/anna/../local/db", None),
    ],
)
def test_kinds(path: str, kind: str | None) -> None:
    assert network_file_system(path, SUBMIT_HOST) == kind


def test_a_relative_path_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / {os.path.realpath(tmp_path)} rw - nfs x rw\n"
    assert network_file_system("db", text) == "nfs"
    assert network_file_system("../db", text) is None


def test_a_link_leads_to_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to("/export/home/anna")
    assert network_file_system(tmp_path / "here" / "db", SUBMIT_HOST) == "nfs4"


@pytest.mark.parametrize("text", ["", "\n", "nonsense", "1 2 3 - nfs", " - ", "1 0 0:1 / / rw - ", "1 0 0:1 / / rw -"])
def test_a_list_that_says_nothing(text: str) -> None:
    assert network_file_system("/db", text) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has the list")
def test_this_machine_s_own_list() -> None:
    """It is read; and with one word changed, it is understood."""
    assert network_file_system("/proc/self/status") is None
    text = Path("/proc/self/mountinfo").read_text().replace(" - proc ", " - nfs ")
    assert network_file_system("/proc/self/status", text) == "nfs"
