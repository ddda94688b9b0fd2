"""The command line: python -m sheepdog serve DBFILE."""

from __future__ import annotations

import argparse
import os
import sys

from .errors import SheepdogError, StorageError


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m sheepdog", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        usage="python -m sheepdog serve DBFILE",
        help="serve a database's unfinished requests to their workers until they end",
    )
    serve.add_argument("dbfile")
    serve.add_argument("inherited", nargs="*", type=int, help=argparse.SUPPRESS)  # descriptors: the lock, the socket
    options = parser.parse_args()
    try:
        if not os.path.exists(options.dbfile):
            raise StorageError(f"there is no database {options.dbfile!r}: map and map_async make one")
        from .server.main import serve as run

        run(options.dbfile, *options.inherited)
    except SheepdogError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
