"""What the texts of values mean."""

import pytest

from sheepdog.config.values import parse_factor, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [("7", 7), ("1k", 1024), ("1K", 1024), ("3m", 3 * 2**20), ("2G", 2**31), ("2g", 2**31), ("1T", 2**40)],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "2\u212a", "\u0662", "1\n", "9" * 5000])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("7s", 7), ("2m", 120), ("2H", 7200), ("1d", 86400), ("1:30:00", 5400), ("100:0:1", 360_001)],
)
def test_parse_time(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "2x", "1:2", "1:60:00", "9" * 5000])
def test_parse_time_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number of seconds"):
        parse_time(text)


@pytest.mark.parametrize(("text", "factor"), [("2x", 2.0), ("1.5x", 1.5), ("10x", 10.0)])
def test_parse_factor(text: str, factor: float) -> None:
    assert parse_factor(text) == factor


@pytest.mark.parametrize("text", ["", "2", "1x", "11x", "x", "2 x"])
def test_parse_factor_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="must be a factor above 1 and at most 10"):
        parse_factor(text)
