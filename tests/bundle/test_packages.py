"""Which installed packages a request needs for certain, and which perhaps. Nothing of them is imported by looking."""

from pathlib import Path

import pytest

from tests.bundle.projects import ask, write

pytestmark = pytest.mark.slow  # each test starts a Python

NEED = """
import sys
from sheepdog.bundle.outgoing import Outgoing
outgoing = Outgoing()
{program}
import io
outgoing.pickler(io.BytesIO()).dump(f)
for each in args:
    outgoing.dump((each,))
outgoing.look()
answer = [(each.name, each.requirement, each.certain, each.modules, each.elsewhere) for each in outgoing.packages(f)]
"""
INSTALLED = {
    "lib/site-packages/wool/__init__.py": "class Ball: pass\nclass One: __reduce__ = lambda self: 'ONE'\nONE = One()\n",
    "lib/site-packages/wool/fine.py": "def spin(x): return x\n",
    "lib/site-packages/Wool_Tools-2.1.dist-info/RECORD": "wool/__init__.py,,\nwool/fine.py,,\n",
    "lib/site-packages/silk.py": "",
    "lib/site-packages/linen.py": "",
    "lib/site-packages/space/wide.py": "",
    "lib/site-packages/space/deep/__init__.py": "",
}
OWN = {
    "helpers.py": """
        import wool, silk
        def spin(x): return wool.fine.spin(x)
        def plain(x): return x
    """,
    "plots.py": "import helpers, linen\ndef size(x): return helpers.plain(x)\n",
    "perhaps.py": "try:\n    import silk\nexcept ImportError:\n    silk = None\ndef f(x): return silk\n",
    "first.py": "def f(x):\n    'Says.'\n    import silk\n    from wool import fine\n    return x\n",
    "spaced.py": "def f(x):\n    from space import wide, deep\n    return x\n",
    "later.py": "def f(x):\n    if x:\n        import silk\n    import linen\n    return x\n",
    "path.py": "import sys\nsys.path.append('/shared')\nimport wool\ndef f(x): return wool\n",
    "lost.py": "import threading, wool\nLOCK = threading.Lock()\nclass f:\n    def __call__(self): return LOCK\n",
}
WOOL, SILK, LINEN = "wool-tools==2.1", "silk", "linen"


def certain(tmp_path: Path, program: str, args: str = "()") -> tuple[list[str], list[str]]:
    """Return what is needed for certain, and what perhaps."""
    project = write(tmp_path / "mine", {**INSTALLED, **OWN})
    found = ask(
        NEED.format(program=f"{program}\nargs = {args}"), project, (str(project), str(project / "lib/site-packages"))
    )
    return [each[1] for each in found if each[2]], [each[1] for each in found if not each[2]]


@pytest.mark.parametrize(
    ("program", "args", "needed", "perhaps"),
    [
        ("f = lambda x: x", "()", [], []),
        ("import wool\nf = lambda x: wool", "()", [WOOL], []),
        ("import wool\nf = lambda x: x", "(wool.Ball(),)", [WOOL], []),
        ("from wool import ONE\nf = lambda x: ONE", "()", [WOOL], []),
        ("f = lambda x: __import__('wool')", "()", [], [WOOL]),
        ("import wool.fine\nf = wool.fine.spin", "()", [WOOL], []),
        ("import helpers\nf = helpers.spin", "()", [WOOL], [SILK]),
        ("import helpers\nf = helpers.plain", "()", [], [SILK, WOOL]),
        ("import helpers\nf = lambda x: helpers.spin(x)", "()", [WOOL], [SILK]),
        ("import helpers\nf = lambda x: helpers.plain(x.spin)", "()", [], [SILK, WOOL]),
        ("import plots\nf = plots.size", "()", [], [LINEN, SILK, WOOL]),
        ("import perhaps\nf = perhaps.f", "()", [], [SILK]),
        ("import first\nf = first.f", "()", [SILK, WOOL], []),
        ("import spaced\nf = spaced.f", "()", ["space.deep", "space.wide"], []),
        ("import later\nf = later.f", "()", [], [LINEN, SILK]),
        ("import path\nf = path.f", "()", [], [WOOL]),
        ("import lost\nf = lost.f()", "()", [WOOL], []),  # a class with a lock goes by name alone
    ],
)
def test_what_is_needed_for_certain(
    tmp_path: Path, program: str, args: str, needed: list[str], perhaps: list[str]
) -> None:
    assert certain(tmp_path, program, args) == (needed, perhaps)


def test_modules_are_named_that_loading_needs(tmp_path: Path) -> None:
    project = write(tmp_path / "mine", INSTALLED)
    program = NEED.format(program="import wool.fine, wool\nf = lambda x: wool.fine\ng = wool.fine.spin\nargs = (g,)")
    [found] = ask(program, project, (str(project / "lib/site-packages"),))
    assert found == ("wool", WOOL, True, ("wool.fine",), True)


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("import helpers\nf = helpers.plain", {SILK, WOOL}),
        ("import plots\nf = plots.size", {LINEN, SILK, WOOL}),
        ("import perhaps\nf = perhaps.f", set()),
        ("import later\nf = later.f", set()),
    ],
)
def test_another_python_needs_what_modules_import_at_their_top(tmp_path: Path, program: str, names: set[str]) -> None:
    project = write(tmp_path / "mine", {**INSTALLED, **OWN})
    path = (str(project), str(project / "lib/site-packages"))
    found = ask(NEED.format(program=f"{program}\nargs = ()"), project, path)
    assert {each[1] for each in found if each[4]} == names
    assert not any(each[2] for each in found)
