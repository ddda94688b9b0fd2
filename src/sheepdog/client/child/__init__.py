"""The worker's second process: it runs the function, and may die of it."""
