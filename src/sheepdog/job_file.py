"""The only writer of text for the cluster: the job file, the secret, and the script that submits.

What a job needs lies in one private directory on the host, named after the job:

    sheepdog_012.sh    the job file: the scheduler's options, then the command that starts the worker
    client.pyz         the worker
    cloudpickle.zip    what the worker needs to load the function
    secret.json        the server's address and certificate, and the request's token. Nowhere else: Grid Engine shows
                       job files, arguments and environments to every user of the cluster
    submit.sh          what was run there to submit the job
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .archives import cloudpickle_archive, worker_archive


@dataclass(frozen=True, slots=True)
class Job:
    """An array job of workers, before its submission. name is unique; directory may be relative to the home."""

    request: int
    name: str
    directory: str
    python: str
    workers: int

    @property
    def file(self) -> str:
        """The name of the job file."""
        return f"sheepdog_{self.request:03d}.sh"


def job_file(job: Job, options: Iterable[str], prefix: str, element: str) -> str:
    """Return the job file: the scheduler's options, each behind its prefix, then the start of the worker.

    element is the environment variable in which the scheduler names the element of the array. A shell starts the
    worker's Python, for queues differ in how they start any other interpreter: some ignore the first line of the
    file, some the option -S, and some start a Python so that it does not find its own library.
    """
    directives = "".join(f"{prefix} {option}\n" for option in options)
    home = "" if job.directory.startswith("/") else "$HOME/"
    return f"""#!/bin/sh
{directives}#
# Request {job.request} of Sheepdog: one of {job.workers} workers. Each asks the server for tasks until there are none.
here="{home}{job.directory}"
exec {job.python} "$here/client.pyz" "$here" "${element}"
"""


def secret(request: int, token: str, urls: Sequence[str], certificate: str, **settings: Any) -> bytes:
    """Return secret.json: what a worker must know, and nobody else may."""
    content = {"request": request, "token": token, "urls": list(urls), "certificate": certificate, **settings}
    return json.dumps(content, indent=1).encode()


def worker_files() -> dict[str, bytes]:
    """Return the files that are the same for every job."""
    return {"client.pyz": worker_archive(), "cloudpickle.zip": cloudpickle_archive()}


def submit_script(submit: str, find: str) -> bytes:
    """Return a script that submits the job once, however often it is run.

    submit is a shell command that prints the job's id; find is one that prints the id of a job of this name, if there
    is one. Run again, the script first looks for the answer of the run before, then for the job. If the scheduler
    refuses, the directory is removed, and the script ends with the scheduler's words and status.
    """
    return f"""here=$(pwd)
if ! mkdir attempted 2>/dev/null; then
  tries=0
  while [ ! -s job_id ] && [ $tries -lt 70 ]; do
    id=$({find}) && [ -n "$id" ] && echo "$id" >job_id
    [ -s job_id ] || sleep 1
    tries=$((tries + 1))
  done
fi
if [ ! -s job_id ]; then
  {submit} >job_id.new 2>errors
  status=$?
  if [ $status -ne 0 ]; then
    cat errors job_id.new >&2
    echo "sheepdog:refused $status"
    cd / && rm -rf "$here"
    exit $status
  fi
  mv job_id.new job_id
fi
echo "sheepdog:job $(tail -n 1 job_id)"
echo "sheepdog:directory $here"
""".encode()


def local_script(job: Job, directory: str) -> bytes:
    """Return a script that starts the workers as processes of the host, in this working directory."""
    return f"""here=$(pwd)
set -- {job.python}
if ! command -v "$1" >/dev/null; then
  echo "$1: not found" >&2
  cd / && rm -rf "$here"
  exit 127
fi
if ! cd {shlex.quote(directory) if directory else '"$HOME"'}; then
  rm -rf "$here"
  exit 1
fi
umask "${{umask:-$(umask)}}"
if [ ! -s "$here/job_id" ]; then
  pids=
  element=1
  while [ $element -le {job.workers} ]; do
    {job.python} "$here/client.pyz" "$here" $element >"$here/worker.$element.log" 2>&1 </dev/null &
    pids="$pids $!"
    element=$((element + 1))
  done
  echo $pids >"$here/job_id"
fi
echo "sheepdog:job $(cat "$here/job_id")"
echo "sheepdog:directory $here"
""".encode()
