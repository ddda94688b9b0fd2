"""What the README tells a stranger to type."""

import re

from tests.local import ROOT


def commands() -> list[str]:
    """The commands of the README's section on setting up."""
    section = re.search(r"^## Set up\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section
    blocks = re.findall(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]
