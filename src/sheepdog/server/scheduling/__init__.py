"""The server's thread for what takes a scheduler: asking, submitting, clearing up."""
