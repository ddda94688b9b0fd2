"""The name of old of values.serialisation."""

from .values.serialisation import deserialise, deserialise_arguments, serialise, serialise_arguments, serialise_function

__all__ = ["deserialise", "deserialise_arguments", "serialise", "serialise_arguments", "serialise_function"]
