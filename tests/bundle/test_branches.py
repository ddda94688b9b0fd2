"""What a module sets to one constant or another, by what it finds where it is imported."""

import pytest

from sheepdog.bundle.branches import Branches, branches_in

NUMPY = frozenset({"np"})


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (
            "try:\n  import numpy as np\n  HAVE = True\nexcept ImportError: HAVE = False",
            {"HAVE": Branches(NUMPY, True, False)},
        ),
        (
            "HAVE = False\ntry: import numpy as np\nexcept ImportError: pass\nelse: HAVE = True",
            {"HAVE": Branches(NUMPY, True, False)},
        ),
        (
            "try: from fast import f, g as np\nexcept ImportError: np = f = None",
            {name: Branches(frozenset({"f", "np"}), None, None) for name in ("np", "f")},
        ),
        (
            "import sys\nif sys.version_info >= (3, 12): V = 'new'\nelse: V = 'old'",
            {"V": Branches(frozenset(), "new", "old")},
        ),
        ("import os\nDEBUG = False\nif os.environ.get('DEBUG'): DEBUG = True", {}),
        ("if x: V = 1\nelse: V = 2", {}),
        ("try:\n  import a\n  V = f()\nexcept ImportError: V = 1", {}),
        ("try:\n  import a\n  V = 1\nexcept ImportError: V = 2\nV += 1", {}),
        ("try:\n  import a\n  V = 1\nexcept ImportError:\n  def V(): pass", {}),
        ("def f():\n  try:\n    import a\n    V = 1\n  except ImportError: V = 2", {}),
        ("try: V = 1\nexcept ImportError: V = 2", {}),
    ],
)
def test_which_names_go_by_what_is_found(source: str, found: dict[str, Branches]) -> None:
    assert branches_in(source.encode()) == found


def test_which_branch_was_taken() -> None:
    branches = Branches(NUMPY, True, False)
    assert branches.taken({"np": object()}) == (True,)
    assert branches.taken({"np": None}) == branches.taken({}) == (False,)
    assert Branches(frozenset(), 1, 2).taken({}) == (1, 2)
