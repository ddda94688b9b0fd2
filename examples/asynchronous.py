"""Dispatch a request, do something else, and fetch its results: from here, from another process, or tomorrow.

python asynchronous.py [HOST]
"""

import sys

import sheepdog


def slow_square(x):
    import time

    time.sleep(0.2)
    return x * x


if __name__ == "__main__":
    config = {"host": sys.argv[1]} if sys.argv[1:] else {}
    request_id = sheepdog.map_async(slow_square, [(x,) for x in range(8)], config)
    print("This is request", request_id)

    # What is there so far; None where there is nothing yet.
    early = sheepdog.get_results(request_id, "./sheepdog.sqlite", block=False)
    print("Tasks:", len(early))

    # Wait for the rest. All it takes is the id and the database file.
    for (x,), square in sheepdog.get_results(request_id, "./sheepdog.sqlite"):
        print(f"{x} squared is {square}")
