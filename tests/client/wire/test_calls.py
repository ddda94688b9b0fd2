"""Calls that say which function they are of."""

import io
import pickle

import pytest

from sheepdog.client.wire.calls import (
    call_by_name,
    call_with,
    for_all,
    is_for_all,
    manifest_in,
    names_in,
    split,
    with_manifest,
    without_manifest,
)

NAME = bytes(range(32))
ARGUMENTS = pickle.dumps(((1, 2), {}))


def test_a_call_that_names_its_function() -> None:
    call = call_by_name(NAME, ARGUMENTS)
    assert names_in(call) == names_in(io.BytesIO(call)) == [NAME]
    assert split(call) == (NAME, b"", ARGUMENTS)


@pytest.mark.parametrize("function", [b"f", b"\0N" * 100, bytes(70_000)])
def test_a_call_that_brings_its_function(function: bytes) -> None:
    call = call_with(function, ARGUMENTS)
    assert names_in(call) == []
    assert split(call) == (b"", function, ARGUMENTS)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arguments_alone(protocol: int) -> None:
    arguments = pickle.dumps(((b"\0N",), {}), protocol)
    assert names_in(arguments) == names_in(io.BytesIO(arguments)) == []
    assert split(arguments) == (b"", b"", arguments)


@pytest.mark.parametrize("call", [ARGUMENTS, call_by_name(NAME, ARGUMENTS), call_with(b"f", ARGUMENTS)])
def test_a_call_with_a_manifest(call: bytes) -> None:
    manifest = bytes(reversed(NAME))
    with_it = with_manifest(manifest, call)
    assert manifest_in(with_it) == manifest_in(io.BytesIO(with_it)) == manifest
    assert names_in(with_it) == [manifest, *names_in(call)]
    assert split(with_it) == split(call)
    assert without_manifest(with_it) == without_manifest(call) == call
    assert manifest_in(call) == b""


def test_a_manifest_for_all_calls() -> None:
    function = with_manifest(NAME, b"a function")
    of_all = for_all(function)
    assert (is_for_all(function), is_for_all(of_all), is_for_all(io.BytesIO(of_all))) == (False, True, True)
    assert (manifest_in(of_all), without_manifest(of_all)) == (NAME, b"a function")
    assert for_all(b"a function") == b"a function"
