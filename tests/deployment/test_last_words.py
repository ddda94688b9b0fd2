"""Which line of a worker's output tells most."""

import pytest

from sheepdog.deployment.last_words import explains, telling
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


SAID = [
    "Fatal: no space",
    "/var/spool/job: 12: exec: /opt/py/bin/python3: Exec format error",
    "/opt/py/bin/python3: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by /opt/py/bin/python3)",
    "/var/spool/job: line 12:  4711 Illegal instruction     (core dumped) python3 client.pyz",
    "Illegal instruction (core dumped)",
    "Segmentation fault",
    "Killed",
    "bash: /opt/py/bin/python3: cannot execute binary file: Exec format error",
    "-bash: /usr/local/bin/wrap: /bin/nosh: bad interpreter: No such file or directory",
    "bash: line 3: module: command not found",
    "zsh: command not found: module",
    "module: Command not found.",
    "python3: error while loading shared libraries: libpython3.11.so.1.0: cannot open shared object file: No such file",
    "/opt/py/bin/python3: symbol lookup error: undefined symbol: PyInit",
    "tar: data: Cannot write: No space left on device",
    "cp: error writing 'x': Disk quota exceeded",
    "/scratch: Stale file handle",
    "Lmod has detected the following error: The following module(s) are unknown: wool",
    "Unable to locate a modulefile for 'wool'",
    "slurmstepd: error: Detected 1 oom-kill event(s)",
    "FATAL ERROR: cannot reserve memory",
    "[critical]: the node is unwell",
]
BANNERS = [
    BANNER,
    "Epilogue: job finished\n",
    "Thank you for using Hive. Report problems to help@example.com\n",
    "Elapsed: 00:00:01  Memory: 12 MB\n",
    "***** All activity may be monitored and reported. *****\n",
]


@fault("last words", "a shell's or a system's error before a banner, in one file", promise="it is the one that is told")
@pytest.mark.parametrize("line", SAID)
def test_an_error_before_a_banner(line: str) -> None:
    for banner in BANNERS:
        assert telling([f"{banner}{line}\n{banner}"]) == line
        assert telling([banner, f"{line}\n{banner}"]) == line


@pytest.mark.parametrize(
    "line",
    [
        "sheepdog: on n1 this line of setup failed: module load python/3.11",
        "numpy.linalg.LinAlgError: Singular matrix",
        "OSError: [Errno 28] No space left on device",
        "Fatal: no space",
        "bash: line 3: module: command not found",
        "slurmstepd: error: Detected 1 oom-kill event(s)",
        LOST.strip(),
    ],
)
def test_what_explains_the_end_of_a_worker(line: str) -> None:
    assert explains(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        *(banner.splitlines()[0] for banner in BANNERS),
        "sheepdog: on n1 there is no /opt/py/bin/python3",
        "sh: 9: exec: /no/python3: not found",
        "Fatal Python error: init_fs_encoding: failed",
        "ModuleNotFoundError: No module named 'encodings'",
        "SyntaxError: invalid syntax",
        "Illegal instruction (core dumped)",
        "job: 12: exec: /opt/wool: Exec format error",
        "/lib64/libc.so.6: version `GLIBC_2.34' not found (required by /opt/wool)",
    ],
)
def test_what_leaves_the_python_in_doubt(line: str) -> None:
    assert not explains(line)
