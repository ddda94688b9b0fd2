"""Values that pass between packages, and how functions and values are made bytes."""
