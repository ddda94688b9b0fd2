"""Facts: what a user should hear of their files before they travel, each as a sentence that says what to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Why(enum.Enum):
    """What is the matter with a file; its value is the sentence."""

    GONE = "{path} is gone since {name} was imported from it: what is used of it goes by value"
    CHANGED = (
        "{path} has changed since {name} was imported here: the workers import it as it is now. Start anew, or reload "
        "the module, so that both are the same"
    )
    SYNTAX = "{path} cannot be compiled ({more}): what it imports is not known"
    UNREADABLE = "{path} does not travel: it cannot be read ({more})"
    COMPILED = (
        "{path} is compiled for this Python and this machine: the module {name} can be imported by the same Python on "
        "the same kind of machine only"
    )
    TOO_LARGE = (
        "{path} does not travel: {more}. If the workers need it, name it in ship=[...], or put it where they can read "
        "it"
    )
    REPLACED = (
        "{name} in {path} was replaced by something of a program or a test, and is not over there: it is what the file "
        "makes of it. Let the function that is run there set it, if it is to be what it is here"
    )
    NOT_PLAIN = (
        "{name} in {path} was set to an object of {more}, which is no plain data, and is not over there: it is "
        "what the file makes of it. Pass it as an argument, or let the function that is run there set it, if it is "
        "to be what it is here"
    )
    STATE_TOO_LARGE = (
        "{name} in {path} is not set over there: {more}. It is what the file makes of it; pass it as an argument if it "
        "is to be what it is here"
    )


@dataclass(frozen=True, slots=True)
class Fact:
    """What is the matter with one file. name is the module or the global, more says how much or why."""

    why: Why
    path: str
    name: str = ""
    more: str = ""

    def __str__(self) -> str:
        return self.why.value.format(path=self.path, name=self.name, more=self.more)
