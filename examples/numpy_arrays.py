"""Send and receive numpy arrays. numpy must be installed where the workers run.

python numpy_arrays.py [HOST]
"""

import sys

import sheepdog


def f(a, b):
    global np  # before the import: the other order is a SyntaxError
    import numpy as np

    return g(a, b)


def g(a, b):
    return np.array((a, b)) ** 2


if __name__ == "__main__":
    config = {"host": sys.argv[1]} if sys.argv[1:] else {}
    for result in sheepdog.map(f, [(1, 2), (3, 4)], config, {"g": g}):
        print(type(result).__name__, result)
