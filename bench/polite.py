"""Count what the scheduler of the test cluster is asked, for ten requests at once: python bench/polite.py [MINUTES].

Each command of Grid Engine on the head node writes a line before it runs. Needs what the test cluster needs.
"""

from __future__ import annotations

import collections
import itertools
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.cluster import Cluster, until

REQUESTS = 10
COMMANDS = ("qsub", "qstat", "qdel", "qacct")
COUNT = """
mkdir -p /run/real
for command in {commands}; do
  cp /usr/lib/gridengine/$command /run/real/$command
  printf '#!/bin/sh\\necho "$(date +%%s) '$command' $*" >>/tmp/calls\\nexec /run/real/'$command' "$@"\\n' >/run/$command
  chmod 755 /run/$command /run/real/$command
  mount --bind /run/$command /usr/lib/gridengine/$command
done
touch /tmp/calls && chmod 666 /tmp/calls
"""
CALL = """
import json, sys, time, sheepdog
config, seconds = json.loads(sys.argv[1]), float(sys.argv[2])
ids = [sheepdog.map_async(time.sleep, [(seconds,)], config) for _ in range(int(sys.argv[3]))]
print(len([sheepdog.get_results(request_id, config["dbfile"]) for request_id in ids]))
"""


def main() -> None:
    """Run the requests, and print what was asked."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with Cluster() as cluster:
        cluster.on("head", ["sh", "-euc", COUNT.format(commands=" ".join(COMMANDS))])
        config = {"host": "head", "dbfile": f"{cluster.home}/polite.sqlite", "shell": "/opt/python/bin/python3"}
        began = time.time()
        words = [json.dumps(config), str(minutes * 30), str(REQUESTS)]  # two rounds on 8 slots
        cluster.on("outside", [sys.executable, "-c", CALL, *words], timeout=minutes * 60 * 3 + 300)
        seconds = time.time() - began
        lines = cluster.on("head", ["cat", "/tmp/calls"]).stdout.splitlines()
        until(lambda: not cluster.on("head", ["qstat", "-u", "*"]).stdout, "the queue is empty", 90)
    calls = [line.split(None, 2) for line in lines]
    status = [float(moment) for moment, command, *rest in calls if command == "qstat" and rest and "-u" in rest[0]]
    print(f"{REQUESTS} requests in {seconds:.0f} s:", dict(collections.Counter(call[1] for call in calls)))
    print(f"status queries: {len(status)}, one in {seconds / max(1, len(status)):.0f} s;", end=" ")
    pauses = [later - earlier for earlier, later in itertools.pairwise(status)]
    print(f"the shortest pause between two was {min(pauses, default=0):.0f} s")
    for moment, *rest in calls:
        print(f"{float(moment) - began:8.0f} s  {' '.join(rest)[:100]}")


if __name__ == "__main__":
    main()
