"""See what becomes of tasks that fail: the others are not touched, and every error says what happened.

python errors.py [HOST]
"""

import sys

import sheepdog


def fragile(x):
    import os
    import threading

    print("working on", x)
    if x == "exit":
        os._exit(3)  # as a crash in C would
    if x == "lock":
        return threading.Lock()  # nothing can serialise this
    return 1 / x


if __name__ == "__main__":
    config = {"host": sys.argv[1]} if sys.argv[1:] else {}
    request_id = sheepdog.map_async(fragile, [(2,), (0,), ("exit",), ("lock",), (4,)], config)

    for args, result in sheepdog.get_results(request_id, "./sheepdog.sqlite"):
        print(args, "->", result)

    print()
    for args, error in sheepdog.get_errors(request_id, "./sheepdog.sqlite"):
        print(args, error.splitlines()[0])

    print("\nThe first one in full:\n")
    print(sheepdog.get_errors(request_id, "./sheepdog.sqlite")[0][1])
