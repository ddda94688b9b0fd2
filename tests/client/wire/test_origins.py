"""Where things are from: the digest of what they are made of."""

import subprocess
import sys
import textwrap

import pytest

SAME = """
    import collections, dataclasses, enum, functools, abc
    {0}
    @dataclasses.dataclass(slots=True)
    class Data:
        x: int
        y: float = {1}
        @property
        def z(self): return {{"a", "b", "c"}} & {{self.x}}
    class Colour(enum.Enum):
        RED = {1}
    Row = collections.namedtuple("Row", "a b", defaults=[{1}])
    def make(k):
        def inner(x, k=k): return inner, k, {1}, (lambda: {1}), "a" in ("a", "b")
        return inner
    function = make({1})
    @functools.lru_cache
    def cached(): return {1}
    class Counting(abc.ABC):
        n = {2}
        @abc.abstractmethod
        def count(self): {2}; return {1}
"""
NAMES = ["Data", "Colour", "Row", "function", "cached", "Counting"]


def digests(*values: object) -> list[str]:
    """Return the digests of what a script with these values defines, in a process of its own."""
    look = f"\nfrom sheepdog.client.wire.origins import digest\nprint(*map(digest, [{', '.join(NAMES)}]))"
    script = textwrap.dedent(SAME).format(*values) + look
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
def test_a_digest_is_of_what_something_is_made_of() -> None:
    first = digests("", 1, 5)
    assert digests("\n# further down", 1, 5) == first
    other = digests("", 2, 5)
    assert [a != b for a, b in zip(first, other, strict=True)] == [True] * len(NAMES)
    assert digests("", 1, 6)[-1] == first[-1]
