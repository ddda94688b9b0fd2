"""How sure are the coefficients of a regression? Bootstrap them: 2,000 resamples in 20 tasks.

    python bootstrap.py [HOST]

The data are those of 442 diabetes patients that come with scikit-learn: ten measurements, and the progress of the
disease a year later. Each task has a seed of its own, so every run prints the same table, however many workers there
are. The data travel once, with the function, not once a task. The workers need numpy; only this machine needs
scikit-learn.
"""

import sys

import numpy as np
from sklearn.datasets import load_diabetes

import sheepdog

TASKS = 20
RESAMPLES = 100  # of one task


def fit(x, y):
    """Return the coefficients of a linear regression, without the intercept."""
    return np.linalg.lstsq(np.column_stack([np.ones(len(y)), x]), y, rcond=None)[0][1:]


def resample(seed, count):
    """Return the coefficients for this many draws of patients with replacement."""
    random = np.random.default_rng(seed)
    draws = (random.integers(len(y), size=len(y)) for _ in range(count))
    return np.array([fit(x[draw], y[draw]) for draw in draws])


if __name__ == "__main__":
    config = {"host": sys.argv[1]} if sys.argv[1:] else {}
    data = load_diabetes()
    x, y = data.data, data.target
    parts = sheepdog.map(resample, [(seed, RESAMPLES) for seed in range(TASKS)], config)
    low, high = np.percentile(np.concatenate(parts), [2.5, 97.5], axis=0)
    print(f"{'':6}{'estimate':>10}{'95 % interval':>20}")
    for name, estimate, a, b in zip(data.feature_names, fit(x, y), low, high, strict=True):
        sure = "" if a < 0 < b else " *"
        print(f"{name:6}{estimate:10.1f}{a:10.1f}{b:10.1f}{sure}")
