"""Write the files that hosts mount in place of the machine's own: parts of /etc, homes, keys."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ARCH = Path("/usr/share/gridengine/util/arch")
ADDRESSES = {"head": "10.88.0.1", "node1": "10.88.0.2", "node2": "10.88.0.3", "outside": "10.99.0.2"}
USERS = {"sheep": 7001, "other": 7002}

ACCOUNTS = {
    "passwd": "{0}:x:{1}:{1}::/home/{0}:/bin/bash\n",
    "group": "{0}:x:{1}:\n",
    "shadow": "{0}:*:19000::::::\n",
}
SSHD = """\
HostKey /etc/ssh/host_key
UsePAM no
PasswordAuthentication no
PermitRootLogin no
MaxStartups 100
MaxSessions 100
PidFile none
Subsystem sftp /usr/lib/openssh/sftp-server
"""
SSH = """\
Host head
    User sheep
    IdentitiesOnly yes
    IdentityFile {key}
"""


def write_files(directory: Path, pythons: Mapping[str, str | os.PathLike[str]]) -> None:
    """Fill the cluster's directory.

    HOST/etc    its /etc: a copy of the machine's, with the host's own names, accounts and keys
    HOST/opt, HOST/spool, HOST/tmp      its /opt, /var/spool/gridengine, /tmp
    home        /home of head and the nodes
    user        home of root on outside
    arch        says what Debian's does, which each of Grid Engine's commands asks, without starting 70 processes
    """
    for host in ADDRESSES:
        for part in ("", "etc", "opt", "spool", "tmp"):
            folder(directory / host / part, 0o1777 if part == "tmp" else 0o755)
        subprocess.run(["cp", "-a", "/etc/.", directory / host / "etc"], check=True)
        write_names(directory / host / "etc")
        write_pythons(directory / host / "opt", pythons)
        if host == "outside":
            accounts = Path("/etc/passwd").read_text()
            home = re.sub(r"^(root:.*):.*:(.*)$", rf"\1:{directory}/user:\2", accounts, flags=re.M)
            file(directory / host / "etc/passwd", home)
        else:
            write_accounts(directory / host / "etc")
    arch = subprocess.run([ARCH], capture_output=True, text=True, check=True).stdout.strip()
    file(directory / "arch", f"#!/bin/sh\necho {arch}\n", 0o755)
    folder(directory / "home")
    for user, number in USERS.items():
        folder(directory / "home" / user, 0o755, number)
        folder(directory / "home" / user / ".ssh", 0o700, number)
    folder(directory / "user", 0o700)
    folder(directory / "user/.ssh", 0o700)
    write_keys(directory / "user/.ssh", directory / "head/etc/ssh", directory / "home/sheep/.ssh")


def write_names(etc: Path) -> None:
    names = [f"{address} {host}\n" for host, address in ADDRESSES.items()]
    file(etc / "hosts", "".join(["127.0.0.1 localhost\n", *names]))


def write_accounts(etc: Path) -> None:
    """The machine's accounts, and the cluster's users."""
    for name, entry in ACCOUNTS.items():
        lines = Path("/etc", name).read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.split(":")[0] not in USERS]
        ours = [entry.format(*user) for user in USERS.items()]
        file(etc / name, "".join(kept + ours), 0o600 if name == "shadow" else 0o644)


def write_pythons(opt: Path, pythons: Mapping[str, str | os.PathLike[str]]) -> None:
    """A place to mount each Python, and one directory with the libpythons of all."""
    folder(opt / "lib")
    for name, prefix in pythons.items():
        folder(opt / name)
        for library in Path(prefix, "lib").glob("libpython*.so.*"):
            (opt / "lib" / library.name).symlink_to(f"/opt/{name}/lib/{library.name}")


def write_keys(client: Path, server: Path, account: Path) -> None:
    """Let the client log in to this account of the server, called head, and know the server."""
    shutil.rmtree(server)  # the machine's
    folder(server)
    for key in (client / "id_ed25519", server / "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key], check=True)
    file(server / "sshd_config", SSHD)
    file(client / "config", SSH.format(key=client / "id_ed25519"))
    file(client / "known_hosts", "head " + (server / "host_key.pub").read_text())
    file(account / "authorized_keys", (client / "id_ed25519.pub").read_text())


def folder(path: Path, mode: int = 0o755, owner: int = 0) -> None:
    """Make a directory with this mode, whatever our umask."""
    path.mkdir(exist_ok=True)
    path.chmod(mode)
    os.chown(path, owner, owner)


def file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file with this mode, whatever our umask."""
    path.touch(0o600)
    path.chmod(mode)
    path.write_text(text)
