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
from typing import Any, NamedTuple

from .archives import cloudpickle_archive, worker_archive

CLOUDPICKLE = "cloudpickle.zip"
LOOK = 3  # seconds after which, and between which, the job of a submission that does not end is looked for
FIND_TRIES = 10  # seconds until a job that was submitted can be found by its name
NO_ID = 65  # the status of a submission that seems to have succeeded, and left no job


class Job(NamedTuple):
    """An array job of workers, before its submission. name is unique; directory may be relative to the home."""

    request: int
    name: str
    directory: str
    python: str
    workers: int
    setup: tuple[str, ...] = ()
    """Lines for the shell that starts the worker."""

    @property
    def file(self) -> str:
        """The name of the job file."""
        return f"sheepdog_{self.request:03d}.sh"


def job_file(job: Job, options: Iterable[str], prefix: str, element: str, directory: str = "") -> str:
    """Return the job file: the scheduler's options, each behind its prefix, then the start of the worker.

    element is the environment variable in which the scheduler names the element of the array. A shell starts the
    worker's Python, for queues differ in how they start any other interpreter: some ignore the first line of the
    file, some the option -S, and some start a Python so that it does not find its own library. directory is where
    the worker starts, quoted for the shell; empty if the scheduler sees to that.
    """
    directives = "".join(f"{prefix} {option}\n" for option in options)
    home = "" if job.directory.startswith("/") else "$HOME/"
    refuse = '{ echo "sheepdog: the workers cannot start in this directory of $(hostname)" >&2; exit 1; }'
    change = f"cd {directory} || {refuse}\n" if directory else ""
    return f"""#!/bin/sh
{directives}#
# Request {job.request} of Sheepdog: one of {job.workers} workers. Each asks the server for tasks until there are none.
here="{home}{job.directory}"
{change}{BASH + setup(job.setup) if job.setup else ""}set -- {job.python}
{ABSENT}exec {job.python} "$here/client.pyz" "$here" "${element}"
"""


BASH = """if [ -z "${BASH_VERSION-}" ] && command -v bash >/dev/null; then
  exec bash "$0" "$@"
fi
"""
"""Goes on with bash, where there is one: functions of a site's, such as module, are often written for it."""

SITE = "command -v module >/dev/null || [ ! -r /etc/profile ] || . /etc/profile\n"
"""Has such functions defined, as a login shell has; a job's shell is none."""

ABSENT = """command -v "$1" >/dev/null || { echo "sheepdog: on $(hostname) there is no $1" >&2; exit 127; }
"""
"""Says on which host there is no Python, also where no accounting does."""

FAILED = """[ $? -eq 0 ] || {{
  trap - EXIT; echo "sheepdog: on $(hostname) this line of setup failed:" {line} >&2; exit 1
}}
"""
ENDED = """echo "sheepdog: on $(hostname) the shell ended in this line of setup:" {line} >&2"""


def setup(lines: Sequence[str]) -> str:
    """Return what runs the user's lines in a shell; one that fails ends it. One that ends it itself is named, too."""
    text = SITE
    for line in lines:
        quoted = shlex.quote(line)
        text += f"trap {shlex.quote(ENDED.format(line=quoted))} EXIT\n{line}\n{FAILED.format(line=quoted)}"
    return text + "trap - EXIT\n"


def secret(request: int, token: str, urls: Sequence[str], certificate: str, **settings: Any) -> bytes:
    """Return secret.json: what a worker must know, and nobody else may."""
    content = {"request": request, "token": token, "urls": list(urls), "certificate": certificate}
    return json.dumps({**content, "path": [CLOUDPICKLE], **settings}, indent=1).encode()


def worker_files() -> dict[str, bytes]:
    """Return the files that are the same for every job."""
    return {"client.pyz": worker_archive(), CLOUDPICKLE: cloudpickle_archive()}


WRITTEN = r"ls | sed -n 's/.*\.o\([0-9][0-9]*\)\.[0-9][0-9]*$/\1/p' | head -n 1"
"""Prints the id of a job that has written its output here: it may be over before anybody looks for it."""


def submit_script(submit: str, find: str, exact: str = "[^ ]+") -> bytes:
    """Return a script that submits the job once, however often it is run.

    submit is a shell command that prints the job's id; find is one that prints the id of a job of this name, if there
    is one; exact is the pattern of an id. If submit prints more or less than an id, as a site's wrapper may, or does
    not end, as qsub with -sync y, the job is looked for by its name. Run again, the script first looks for the answer
    of the run before, then for the job. If the scheduler refuses, the directory is removed, and the script ends with
    the scheduler's words and status. A scheduler that was too slow to answer may have taken the job all the same: that
    is looked for, too.
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
  {submit} >job_id.new 2>errors &
  submitting=$!
  while sleep {LOOK}; do
    id=$({find}) && [ -n "$id" ] && echo "$id" >job_id.found && kill -9 $submitting && break
  done >/dev/null 2>&1 &
  looking=$!
  wait $submitting
  status=$?
  kill $looking
  [ -s job_id.found ] && mv job_id.found job_id.new && status=0
  if [ $status -ne 0 ] && id=$({find}) && [ -n "$id" ]; then
    echo "$id" >job_id.new
    status=0
  fi
  tries=0
  while [ $status -eq 0 ] && {{ [ $(grep -c '' job_id.new) -ne 1 ] || ! grep -Eqx '{exact}' job_id.new; }}; do
    id=$({find}) && [ -n "$id" ] && echo "$id" >job_id.new && continue
    id=$({WRITTEN}) && [ -n "$id" ] && echo "$id" >job_id.new && continue
    tries=$((tries + 1))
    [ $tries -lt {FIND_TRIES} ] || status={NO_ID}
    [ $status -ne 0 ] || sleep 1
  done
  [ $status -ne {NO_ID} ] || echo "it printed no id of a job, and there is no job of this name" >>job_id.new
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
