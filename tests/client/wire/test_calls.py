"""Calls that say which function they are of."""

import io
import pickle

import pytest

from sheepdog.client.wire.calls import call_by_name, call_with, name_in, split

NAME = bytes(range(32))
ARGUMENTS = pickle.dumps(((1, 2), {}))


def test_a_call_that_names_its_function() -> None:
    call = call_by_name(NAME, ARGUMENTS)
    assert name_in(call) == NAME
    assert name_in(io.BytesIO(call)) == NAME
    assert split(call) == (NAME, b"", ARGUMENTS)


@pytest.mark.parametrize("function", [b"f", b"\0N" * 100, bytes(70_000)])
def test_a_call_that_brings_its_function(function: bytes) -> None:
    call = call_with(function, ARGUMENTS)
    assert name_in(call) is None
    assert split(call) == (b"", function, ARGUMENTS)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arguments_alone(protocol: int) -> None:
    arguments = pickle.dumps(((b"\0N",), {}), protocol)
    assert name_in(arguments) is name_in(io.BytesIO(arguments)) is None
    assert split(arguments) == (b"", b"", arguments)
