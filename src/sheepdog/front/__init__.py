"""The user's own process: what they call, the one road from there to the cluster, and waiting for what comes of it."""
