"""What a user should hear is a sentence."""

import pytest

from sheepdog.bundle.facts import Fact, Why


@pytest.mark.parametrize("why", Why, ids=lambda why: why.name)
def test_each_names_the_file_and_leaves_nothing_open(why: Why) -> None:
    words = str(Fact(why, "/home/a/{x}.py", "pkg.x", "because"))
    assert "/home/a/{x}.py" in words
    assert "{path}" not in words
    assert "{name}" not in words
    assert "{more}" not in words
