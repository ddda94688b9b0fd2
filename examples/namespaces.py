"""Give a function names that it does not have here, and share an import with its helpers.

    python namespaces.py [HOST]

What f uses from this file travels with it anyhow. ns is for the rest: here a constant that is another one in each
request, and a helper that f does not know by name.
"""

import sys

import sheepdog


def f(a, b):
    global math  # the import is there for the helper too; global comes first
    import math

    return a + helper(b) + constant  # noqa: F821 (ns has them)


def double(x):
    return math.floor(x * 2)


if __name__ == "__main__":
    config = {"host": sys.argv[1]} if sys.argv[1:] else {}
    args = [(1, 2), (2, 3), (3, 4)]
    for constant in (12, 100):
        results = sheepdog.map(f, args, config, {"helper": double, "constant": constant})
        print(f"With {constant}:", results)
