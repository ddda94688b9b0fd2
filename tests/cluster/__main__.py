"""Bring a cluster up by hand, and look around in it; see the package's docstring."""

import argparse
import os
import signal
import sys
from pathlib import Path

from tests.cluster import Cluster, unavailable
from tests.cluster.hosts import entering
from tests.waiting import until


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    verbs = parser.add_subparsers(required=True)

    verb = verbs.add_parser("up", help="bring a cluster up; it lasts until Ctrl-C or `down`")
    verb.add_argument("--shell-start-mode", default="unix_behavior")
    verb.add_argument("--scheduler", default="gridengine", choices=["gridengine", "slurm"])
    verb.add_argument("--no-accounting", dest="accounting", action="store_false")
    verb.set_defaults(do=up)

    verb = verbs.add_parser("on", help="run a command on a host")
    verb.add_argument("host", help="HOST or USER@HOST")
    verb.add_argument("command", nargs=argparse.REMAINDER)
    verb.set_defaults(do=on)

    verb = verbs.add_parser("down", help="take the cluster down")
    verb.set_defaults(do=down)

    for verb in verbs.choices.values():
        verb.add_argument("--cluster", type=Path, help="its directory; needed if more than one is up")
    words = parser.parse_args()
    words.do(words)


def up(words: argparse.Namespace) -> None:
    if reason := unavailable():
        sys.exit(reason)
    stops = {signal.SIGINT, signal.SIGTERM}
    with Cluster(words.shell_start_mode, scheduler=words.scheduler, accounting=words.accounting) as cluster:
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)
        print(cluster.directory, flush=True)
        signal.sigwait(stops)


def on(words: argparse.Namespace) -> None:
    user, _, host = words.host.rpartition("@")
    file = the_cluster(words) / host / "pid"
    if not file.exists():
        sys.exit(f"there is no host {host}")
    command = entering(int(file.read_text()), words.command or ["bash"], user or "root")
    os.execvp(command[0], command)


def down(words: argparse.Namespace) -> None:
    directory = the_cluster(words)
    os.kill(int((directory / "owner").read_text()), signal.SIGTERM)
    until(lambda: not directory.exists(), f"{directory} is gone")


def the_cluster(words: argparse.Namespace) -> Path:
    found = [words.cluster] if words.cluster else [file.parent for file in Path("/tmp").glob("cluster-*/owner")]
    if len(found) != 1:
        sys.exit(f"name one with --cluster: {' '.join(map(str, found))}" if found else "no cluster is up")
    return found[0]


if __name__ == "__main__":
    main()
