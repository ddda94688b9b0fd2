"""Second forms: what came by value of the user's own modules, for those that cannot be imported here."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any

    Forms = Mapping[str, Mapping[str, bytes]]  # by module and name
    from .wire.loader import World  # noqa: F401 (named in a comment)


class SecondForms(object):
    """What stands in for modules that cannot be imported."""

    def __init__(self) -> None:
        self.forms = {}  # type: Forms
        self.world = None  # type: World | None  # of what has been loaded
        self.refused = {}  # type: dict[str, str]  # by module: why it could not be imported

    def fill_in(self, module: "ModuleType", error: Exception) -> str:
        """Let a module that cannot be imported have what came by value, when it is looked up; return why, in a line."""
        from .wire.loader import World  # seldom needed
        from .wire.values import load

        name = module.__name__
        reason = self.refused[name] = "%s: %s" % (type(error).__name__, error)
        world = self.world = self.world or World()
        world.modules[name] = module

        def look_up(key: str) -> "Any":
            form = self.forms.get(name, {}).get(key)
            if key.startswith("__"):
                raise AttributeError(key)
            if form is None:
                raise ImportError("%s cannot be imported here (%s), and %s came not by value" % (name, reason, key))
            world.given[name] = set(vars(module))  # what is there stays: tasks may have set it
            vars(module).setdefault(key, load(form, world))
            return vars(module)[key]

        vars(module)["__getattr__"] = look_up  # from 3.7 on it is asked
        for key in self.forms[name] if sys.version_info < (3, 7) else ():
            look_up(key)
        return "%s cannot be imported there (%s): what came of it by value stands in" % (name, reason)
