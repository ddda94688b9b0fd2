"""The name of old of child.controller."""

from .child.controller import Controller

__all__ = ["Controller"]
