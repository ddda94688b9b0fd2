"""Run long simulations that show how far they are, and that go on where they were when a node dies under them.

python simulation.py [HOST]
"""

import sys

import sheepdog


def walk(steps, seed, controller):
    import random

    generator = random.Random(seed)
    begun, place = 0, 0
    checkpoint = controller.restored()
    if checkpoint:  # another attempt came so far
        begun, place, state = checkpoint
        generator.setstate(state)
    for step in range(begun, steps):
        place += generator.choice((-1, 1))
        if (step + 1) % 10_000 == 0:
            controller.report((step + 1, place))
            controller.checkpoint((step + 1, place, generator.getstate()))
    return place


if __name__ == "__main__":
    config = {"host": sys.argv[1]} if sys.argv[1:] else {}
    request_id = sheepdog.map_async(walk, [(30_000, 1), (30_000, 2)], config)

    for (_, seed), (step, place) in sheepdog.follow_reports(request_id, "./sheepdog.sqlite"):
        print(f"walk {seed} is at {place} after {step} steps")

    for (_, seed), place in sheepdog.get_results(request_id, "./sheepdog.sqlite"):
        print(f"walk {seed} ended at {place}")
