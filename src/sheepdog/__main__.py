"""The command line: python -m sheepdog serve DBFILE."""

from __future__ import annotations

import argparse


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(prog="python -m sheepdog", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a database's unfinished requests to their workers until they end")
    serve.add_argument("dbfile")
    serve.add_argument("inherited", nargs="*", type=int, help=argparse.SUPPRESS)  # descriptors: the lock, the socket
    options = parser.parse_args()
    from .listener import serve as run

    run(options.dbfile, *options.inherited)


if __name__ == "__main__":
    main()
