"""Programs that are run here, and the words for what becomes of them."""

import pytest

from sheepdog.deployment.commands import LOOK, end_of, execute, output_of, short, text_of
from sheepdog.errors import CommandFailed, HostError
from tests.faults import fault


def test_what_a_program_writes() -> None:
    done = execute(["sh", "-c", "cat; echo no >&2"], b"baa", 60, "it")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"baa", b"no\n")
    assert output_of(done, "it", "here") == b"baa"


def test_a_program_that_fails() -> None:
    done = execute(["sh", "-c", "echo out; echo no sheep >&2; exit 3"], b"", 60, "it")
    with pytest.raises(CommandFailed, match=r"^it on here failed with status 3: no sheep$") as caught:
        output_of(done, "it", "here")
    assert (caught.value.status, caught.value.output, caught.value.errors) == (3, b"out\n", b"no sheep\n")


def test_a_program_that_takes_too_long() -> None:
    with pytest.raises(HostError, match=r"^it took longer than 0.1 s and was given up$"):
        execute(["sleep", "1000"], b"", 0.1, "it")


def test_short_words() -> None:
    assert short(["echo", "a b"]) == "`echo 'a b'`"
    assert short(["echo", "x" * 200]) == f"`echo {'x' * 105}...`"
    assert text_of(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    assert end_of("x" * 2000 + "the reason \n") == "x" * 990 + "the reason"
    assert end_of(" \n") == "it said nothing"


@pytest.mark.slow
@fault("slow head node", "it takes a while to take what it is sent", promise="all of it arrives")
@pytest.mark.parametrize("size", [100, 100_000, 5_000_000])
def test_an_input_that_is_taken_slowly_arrives(size: int) -> None:
    slowly = f"sleep {2.5 * LOOK}; wc -c"
    done = execute(["sh", "-c", slowly], b"x" * size, 20, "it", ended=lambda _: False)
    assert int(done.stdout) == size
