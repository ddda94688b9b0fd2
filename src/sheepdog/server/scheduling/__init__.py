"""The server's threads for what takes a scheduler, one for each head node: asking, submitting, clearing up."""
