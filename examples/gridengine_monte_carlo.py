"""Pi, by throwing darts: gridengine's map, on the scheduler of your choice.

    python gridengine_monte_carlo.py [process | gridengine | slurm [HOST]]

Each of the 16 tasks has a seed of its own, so every run prints the same, wherever it runs.
"""

import random
import sys

import gridengine
from gridengine.functional import partial
from gridengine.schedulers import GridEngineScheduler, ProcessScheduler, SlurmScheduler, best_available

SCHEDULERS = {"process": ProcessScheduler, "gridengine": GridEngineScheduler, "slurm": SlurmScheduler}


def hits(seed, throws):
    """Return how many of the darts land within the quarter of a circle."""
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(throws))


if __name__ == "__main__":
    kind, host, *_ = [*sys.argv[1:], None, None]
    scheduler = SCHEDULERS[kind](config={"host": host}) if kind else best_available()
    found = gridengine.map(partial(hits, throws=20_000), range(16), scheduler=scheduler)
    print(f"pi is about {4 * sum(found) / (16 * 20_000):.4f}")
