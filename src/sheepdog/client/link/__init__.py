"""The way to the server: one call at a time, tried again."""
