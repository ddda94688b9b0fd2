"""Map a function over argument tuples and print the results.

python simple.py          on this machine
python simple.py fear     on the cluster whose head node is fear
"""

import sys

import sheepdog


def f(a, b):
    return a + b


if __name__ == "__main__":
    config = {"host": sys.argv[1]} if sys.argv[1:] else {}
    results = sheepdog.map(f, [(1, 1), (1, 2), (2, 2)], config)
    print("Received results:", results)
