"""What both ends agree on: frames, sizes, and the kinds of what is said."""
