"""The worker's first process: it keeps the child busy and the server informed."""
