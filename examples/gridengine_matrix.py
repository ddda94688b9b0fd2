"""Multiply two matrices by blocks: jobs of one's own class, and a JobDispatcher used by hand.

    python gridengine_matrix.py [process | gridengine | slurm [HOST]]

The jobs are one request, and so one array job. A job that fails is shown with what it raised; the others are there.
"""

import sys

from gridengine import Job, JobDispatcher
from gridengine.schedulers import GridEngineScheduler, ProcessScheduler, SlurmScheduler, best_available

SCHEDULERS = {"process": ProcessScheduler, "gridengine": GridEngineScheduler, "slurm": SlurmScheduler}
SIZE, BLOCK = 24, 6


class Rows(Job):
    """Some rows of a product."""

    def __init__(self, first, rows, other):
        super().__init__(name=f"rows {first} to {first + len(rows) - 1}")
        self.rows = rows
        self.other = other

    def run(self):
        columns = list(zip(*self.other))
        return [[self.dot(row, column) for column in columns] for row in self.rows]

    @staticmethod
    def dot(row, column):
        return sum(x * y for x, y in zip(row, column))


if __name__ == "__main__":
    kind, host, *_ = [*sys.argv[1:], None, None]
    scheduler = SCHEDULERS[kind](config={"host": host}) if kind else best_available

    a = [[i + j for j in range(SIZE)] for i in range(SIZE)]
    b = [[i * j % 7 for j in range(SIZE)] for i in range(SIZE)]
    dispatcher = JobDispatcher(scheduler)
    jobs = [Rows(first, a[first : first + BLOCK], b) for first in range(0, SIZE, BLOCK)]
    dispatcher.dispatch(jobs)
    blocks = dispatcher.join(timeout=600)

    for job in jobs:
        print(f"{job.name}: exit code {job.exitcode}")
    product = [row for block in blocks for row in block]
    print("trace:", sum(product[i][i] for i in range(SIZE)))
