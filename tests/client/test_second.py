"""Second forms: what is looked up in a module that cannot be imported."""

import types

import pytest

from sheepdog.client.second import SecondForms
from sheepdog.client.wire.values import dump


def test_what_came_by_value_is_there_when_it_is_looked_up() -> None:
    module, second = types.ModuleType("mine"), SecondForms()
    second.forms = {"mine": {"SCALE": dump(3), "set": dump("it came")}}
    vars(module)["set"] = "it is here"
    said = second.fill_in(module, ImportError("no plots"))
    assert said == "mine cannot be imported there (ImportError: no plots): what came of it by value stands in"
    assert (module.SCALE, module.set) == (3, "it is here")
    assert second.refused == {"mine": "ImportError: no plots"}
    with pytest.raises(ImportError, match=r"mine cannot be imported here \(ImportError: no plots\), and X came not by"):
        module.X  # noqa: B018
    with pytest.raises(AttributeError, match="__path__"):
        module.__path__  # noqa: B018
