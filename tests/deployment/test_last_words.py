"""Which line of a worker's output tells most."""

import pytest

from sheepdog.deployment.last_words import telling
from tests.faults import fault

TRACEBACK = """\
Traceback (most recent call last):
  File "client.pyz", line 3, in <module>
numpy.linalg.LinAlgError: Singular matrix
"""
NO_PYTHON = """\
Python path configuration:
  PYTHONHOME = '/wrong'
Fatal Python error: init_fs_encoding: failed to get the Python codec of the filesystem encoding
Python runtime state: core initialized
ModuleNotFoundError: No module named 'encodings'

Current thread 0x00007f2fca2c1000 (most recent call first):
<no Python frame>
"""
BANNER = "*******************\n* Welcome to node 2 *\n*******************\n"
LOST = "2026-11-27 15:00:00 worker a: cannot reach https://here:1 ([Errno 113] No route to host); trying on\n"


@fault("last words", "a worker's error between banners and other lines", promise="it is the one that is told")
@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], ""),
        (["", "\n\n"], ""),
        (["one\n\n"], "one"),
        (["two\n", "one\n"], "two"),  # standard error comes first
        ([BANNER, "done\n"], "* Welcome to node 2 *"),
        ([TRACEBACK, "Epilogue: job finished\n"], "numpy.linalg.LinAlgError: Singular matrix"),
        ([TRACEBACK + BANNER, "done\n"], "numpy.linalg.LinAlgError: Singular matrix"),
        (["ValueError: old\n" + TRACEBACK.replace("LinAlgError", "Oops")], "numpy.linalg.Oops: Singular matrix"),
        (
            [TRACEBACK + "During handling\n\n" + TRACEBACK.replace("Singular", "Odd")],
            "numpy.linalg.LinAlgError: Odd matrix",
        ),
        ([BANNER, TRACEBACK], "numpy.linalg.LinAlgError: Singular matrix"),
        ([NO_PYTHON, ""], "ModuleNotFoundError: No module named 'encodings'"),
        (["Fatal Python error: x\n\n<no Python frame>\n"], "Fatal Python error: x"),
        (["sh: 9: exec: /no/python3: not found\n" + BANNER], "sh: 9: exec: /no/python3: not found"),
        ([BANNER, BANNER + LOST], LOST.strip()),
        (["<no Python frame>\n"], ""),
        (
            ["sh: module: command not found\nsheepdog: on n1 this line of setup failed: module load x\n"],
            "sheepdog: on n1 this line of setup failed: module load x",
        ),
    ],
)
def test_the_line_that_tells_most(texts: list[str], said: str) -> None:
    assert telling(texts) == said
