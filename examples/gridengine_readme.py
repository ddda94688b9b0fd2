"""The example that the gridengine library began with, as it was written; only the last line is new.

    python gridengine_readme.py

It takes Grid Engine or Slurm if this machine has one, else its own processes. To go through another machine, set
SHEEPDOG_HOST=fear, or write it into a configuration file.
"""

import gridengine

def f(x):
  """compute the square of a number"""
  return x*x

scheduler = gridengine.schedulers.best_available()

x = [1, 2, 3, 4, 5]
y = gridengine.map(f, x, scheduler=scheduler)
print(y)
