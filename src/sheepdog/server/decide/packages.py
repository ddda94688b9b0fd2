"""What a request's user is told of packages that a worker has not got, or of another version than here."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...config.options import Options
from ...values.packages import Wanted
from ...values.packages import read as read
from ..calls import Lacking, clean, read_lacking


def lacking_words(wanted: Sequence[Wanted], header: Mapping[str, Any], host: str, options: Options) -> str:
    """Return what a worker lacks, and what mends it. ValueError if it does not say that rightly.

    options are the request's: what they can mend depends on what they are.
    """
    if header.get("gone"):
        return f"the packages that were brought along are not in {clean(header['gone'])} on {host}: retry sends them"
    if header.get("misfit"):
        return (
            f"the packages that were brought along do not fit the worker on {host}: they are for "
            f"{clean(header['misfit'], 1000)}. Name with the option shell a Python that is the same on all nodes"
        )
    known = {each.name: each for each in wanted}
    lacking = [each for each in read_lacking(header.get("lacking")) if each.name in known]
    if not lacking:
        raise ValueError("none of them is needed")
    others = [each for each in read_lacking(header.get("others")) if each.version and each.name in known]
    python = {key: clean(value) for key, value in header["python"].items()}
    there = f"{python.get('implementation')} {python.get('version')} ({python.get('executable')})"
    missing = listed(_missing(known[each.name], each) for each in lacking)
    text = f"the worker on {host} runs {there}, which lacks {missing}"
    if others:
        text += f"; of another version than here: {listed(_other(known[each.name], each) for each in others)}"
    needed = [known[each.name] for each in (*lacking, *others) if each in lacking or known[each.name].certain]
    return f"{text}. {_remedy(needed, python.get('executable') or 'python3', options)}"


def _remedy(needed: Sequence[Wanted], executable: str, options: Options) -> str:
    """Return how a worker's Python comes to have packages. Of those of no known distribution, nobody can say."""
    known = [each.requirement for each in needed if each.distribution]
    given = options.config.packages
    ways = []
    if known and options.can_bring:
        if given is None:
            ways.append("bring them along with the option packages=True")
        elif isinstance(given, str):
            ways.append(f"add to the file {given}: {listed(known)}")
        else:
            named = [*(given if isinstance(given, tuple) else ()), *known]
            ways.append(f"set packages={named!r}")
    if known and not options.interpreter.brought:
        ways.append(f"install them there: {shlex.quote(executable)} -m pip install {' '.join(map(shlex.quote, known))}")
    words = []
    if unknown := [each.name for each in needed if not each.distribution]:
        name = "name what has it in packages=[...]" if options.can_bring else "install what has it"
        words.append(f"{listed(unknown)} is here and of no known distribution: {name}")
    if text := ", or ".join(ways):
        words.append(text[0].upper() + text[1:])
    return ". ".join(words)


def other_words(wanted: Sequence[Wanted], others: Iterable[Lacking]) -> list[str]:
    """Return what a user may want to know of packages that a worker's tasks do not need for certain, or that differ."""
    known = {each.name: each for each in wanted}
    said = [each for each in others if each.name in known]
    differ = [_other(known[each.name], each) for each in said if each.version]
    absent = [known[each.name].name for each in said if not each.version]
    words = [f"a package is of another version there than here: {one}" for one in differ]
    if absent:
        words.append(f"not installed there, and perhaps not needed: {listed(absent)}")
    return words


def _missing(wanted: Wanted, lacking: Lacking) -> str:
    if not lacking.version:
        return f"{wanted.requirement}{'' if _same(wanted) else f' (imported as {wanted.name})'}"
    return f"{lacking.module}: {_other(wanted, lacking)}"


def _same(wanted: Wanted) -> bool:
    return not wanted.distribution or wanted.distribution.replace("-", "_") == wanted.name.lower()


def _other(wanted: Wanted, lacking: Lacking) -> str:
    return f"{wanted.distribution or wanted.name} {lacking.version} there, {wanted.version or 'unknown'} here"


def listed(items: Iterable[str]) -> str:
    """Return items as a list in a sentence."""
    return ", ".join(items)
