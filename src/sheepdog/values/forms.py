"""Forms: how the function of a request is made bytes, and which Pythons can load it so.

A worker finds what loads a form by its name, in LOADERS of client/function.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..client import BY_NAME, PICKLE

COMMON: Mapping[str, tuple[str, ...]] = {PICKLE: ("implementation", "magic"), BY_NAME: ()}
"""By a form's name: what a Python that loads it must have in common with the one that made it."""


class Form(NamedTuple):
    """A form of a function. python is the one that made it, as describe_python says.

    names: those by which it goes, and its arguments, each with its module.
    """

    name: str
    python: Mapping[str, Any]
    names: Sequence[Sequence[str]] = ()

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Form:
        """Return a form as it is stored with its request."""
        python = {key: value for key, value in stored.items() if key not in ("form", "names")}
        return cls(stored.get("form", PICKLE), python, stored.get("names", ()))

    def stored(self) -> dict[str, Any]:
        """Return what is stored with a request."""
        names = {"names": self.names} if self.names else {}
        return {"form": self.name, **self.python, **names}

    def fits(self, python: Mapping[str, Any]) -> bool:
        """Tell whether a Python can load it."""
        return self._shares(python, COMMON[self.name])

    def made_by(self, python: Mapping[str, Any]) -> bool:
        """Tell whether a Python is the one that made it, or like it: what is fit for the one is for the other."""
        return self._shares(python, COMMON[PICKLE])

    def _shares(self, python: Mapping[str, Any], facts: Iterable[str]) -> bool:
        return all(python.get(fact) == self.python.get(fact) for fact in facts)


def choose(forms: Iterable[Form], python: Mapping[str, Any] | None, host: str) -> Form | str:
    """Return the first form that a worker's Python can load, or the sentence that says why there is none."""
    if python is None:
        return "the worker does not say what Python it runs"
    form = None
    for form in forms:
        if form.fits(python):
            return form
    assert form is not None, "a request has a form"
    minor = ".".join(str(form.python.get("version")).split(".")[:2])
    cpython = form.python.get("implementation") == "cpython"
    there = f"`python`, not `shell`, to {minor!r}" if cpython else f"`shell` to a Python {minor} there"
    return (
        f"the worker on {host} runs {python.get('implementation')} {python.get('version')} "
        f"({python.get('executable')}), the function was made by {form.python.get('implementation')} "
        f"{form.python.get('version')}: set the option {there}, or "
        "put what goes by value (a lambda, what a script or a notebook defines) into a module of your own"
    )
