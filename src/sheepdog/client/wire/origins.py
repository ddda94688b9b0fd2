"""Where classes, functions and modules are from that travel by value: so that each end knows its own again."""

import functools
import io
import os
import pickle
import sys
import types
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CACHED = type(functools.lru_cache()(len))  # type: Any
KINDS = (type, types.FunctionType, types.ModuleType, CACHED)

ORIGINS = weakref.WeakKeyDictionary()  # type: weakref.WeakKeyDictionary[Any, Any]  # where what travels is from
KNOWN = weakref.WeakValueDictionary()  # type: weakref.WeakValueDictionary[Any, Any]  # the reverse


def remember(value: "Any", origin: "Any") -> None:
    """Note where something is from."""
    ORIGINS[value] = origin
    if is_lasting(origin):
        KNOWN[origin] = value


def find(origin: "Any") -> "Any":
    """Return what is here of what was sent from here, or has come before; None if that is not here, or not the same.

    Of two that are alike, as of a class that was defined again, the one is taken that has the name now.
    """
    named = named_here(origin[0], origin[1]) if isinstance(origin, tuple) else None
    if isinstance(named, KINDS) and origin_of(named) == origin:
        return named
    return KNOWN.get(origin)


def origin_of(value: "Any") -> "tuple[str, ...] | None":
    """Return where something is from: the name of its module, its own there, and a digest of what it is made of.

    Of a function that holds values of its own there is a digest of these, too, as they are now. None for what no module
    has under a name. What came from elsewhere keeps the origin that it has there.
    """
    origin = ORIGINS.get(value)
    if holds_values(value):
        name = origin[:2] if origin else name_of(value)
        return name and name + (digest(value), held(value))
    if origin is None or not is_lasting(origin):
        name = name_of(value)
        if name is not None:
            origin = name + (digest(value),)
            remember(value, origin)
    return origin


def is_lasting(origin: "Any") -> bool:
    """Tell whether what is from there stays one and the same. A function that holds values is made anew each time."""
    return origin is not None and (not isinstance(origin, tuple) or len(origin) < 4)


def holds_values(value: "Any") -> bool:
    """Tell whether a function holds what may change: in its closure, defaults or attributes, or what it has cached."""
    if type(value) is not types.FunctionType:
        return type(value) is CACHED
    defaults = (value.__defaults__ or ()) + tuple((value.__kwdefaults__ or {}).values())
    return bool(value.__closure__ or vars(value)) or any(type(each) not in SIMPLE for each in defaults)


def held(value: "Any") -> str:
    """Return a digest of the values that a function holds. If they cannot be told, it is like no other."""
    import hashlib

    buffer = io.BytesIO()
    try:
        Held(buffer, 4).dump(value)
    except Exception:
        return os.urandom(16).hex()
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:32]


def name_of(value: "Any") -> "tuple[Any, Any] | None":
    """Return under which names a module that has been imported has something: the module's and its own."""
    if isinstance(value, types.ModuleType):
        return (value.__name__, "") if sys.modules.get(value.__name__) is value else None
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if name and named_here(module, name) is value:
        return module, name
    if type(value) is types.FunctionType:  # a lambda, say
        module = value.__globals__.get("__name__")
        if names_of(module) is value.__globals__:
            for name, each in list(value.__globals__.items()):
                if each is value:
                    return module, name
    return None


def names_of(module: "Any") -> "Any":
    """Return what is in a module that has been imported; None if there is none. To ask a lazy one would load it."""
    try:
        return object.__getattribute__(sys.modules[module], "__dict__")
    except (KeyError, AttributeError, TypeError):
        return None


def named_here(module: "Any", name: str) -> "Any":
    """Return what a module that has been imported calls so, or the module for no name; None if there is nothing."""
    if not name:
        return sys.modules.get(module)
    names, found = names_of(module), None
    for part in name.split("."):
        found = (names or {}).get(part)
        names = getattr(found, "__dict__", None)
    return found


def digest(value: "Any") -> str:
    """Return the digest of what makes a class, a function or a module this one, and not where it stands.

    It is the same in every process of the same Python. A class's attributes do not count: they change while it is used.
    """
    import hashlib  # not at the top: a worker seldom needs it

    return hashlib.sha256(repr(made_of(value, set(), True)).encode("utf-8", "replace")).hexdigest()[:32]


def made_of(value: "Any", seen: "set[int]", whole: bool = False) -> "Any":
    """Return as plain data what something is made of: code, fields, bases; of a class, unless whole, only its name.

    seen has the id() of what was looked at.
    """
    if isinstance(value, (types.FunctionType, list, dict)):
        if id(value) in seen:
            return "..."
        seen.add(id(value))
    if isinstance(value, types.CodeType):
        counts = (value.co_argcount, value.co_kwonlyargcount, value.co_flags, value.co_code)
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        return counts, names, made_of(value.co_consts, seen)
    if isinstance(value, types.FunctionType):
        cells = [content for cell in value.__closure__ or () for content in contents(cell)]
        rest = (value.__code__, value.__defaults__, value.__kwdefaults__, vars(value), cells)
        return [made_of(each, seen) for each in rest]
    if isinstance(value, type):
        parts = dict(vars(value))
        bases = [(base.__module__, base.__qualname__) for base in value.__bases__]
        fields = (list(parts.get("__annotations__", ())), parts.get("__slots__"), parts.get("_fields"))
        members = {name: getattr(each, "value", None) for name, each in parts.get("_member_map_", {}).items()}
        methods = {name: each for name, each in parts.items() if functions_in(each)}
        inner = (bases, fields, members, methods) if whole else ()
        return value.__module__, value.__qualname__, [made_of(each, seen) for each in inner]
    if isinstance(value, types.ModuleType):
        return value.__name__, getattr(value, "__file__", None)
    if isinstance(value, (str, bytes, tuple, list, dict, set, frozenset)) and len(value) > MANY:
        return type(value).__name__, len(value)
    if isinstance(value, dict):
        return sorted((repr(name), repr(made_of(each, seen))) for name, each in value.items())
    if isinstance(value, (set, frozenset)):
        return sorted(repr(made_of(each, seen)) for each in value)
    if isinstance(value, (tuple, list)):
        return [made_of(each, seen) for each in value]
    if isinstance(value, (int, float, complex, str, bytes)) or value is None:
        return type(value).__name__, repr(value)
    return type(value).__qualname__, [made_of(each, seen) for each in functions_in(value)]


MANY = 10000  # items or characters, of which only the number is looked at
SIMPLE = (type(None), bool, int, float, str)
WRAPPERS = (staticmethod, classmethod, property)


def functions_in(value: "Any") -> "list[types.FunctionType]":
    """Return the functions that an attribute of a class is made of."""
    found = [value]
    if isinstance(value, WRAPPERS) or type(value).__module__ == "functools":
        found = [getattr(value, name, None) for name in ("__func__", "fget", "fset", "fdel", "func", "__wrapped__")]
    return [each for each in found if isinstance(each, types.FunctionType)]


def contents(cell: "Any") -> "list[Any]":
    """Return what a variable of a closure holds, if anything."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


class Held(pickle.Pickler):
    """Pickles values that functions hold, and functions by their code; of classes and modules only the names."""

    def __init__(self, *args: "Any") -> None:
        super(Held, self).__init__(*args)
        self.seen = set()  # type: set[int]  # id() of functions

    def reducer_override(self, value: "Any") -> "Any":
        """Return how to pickle a value (from 3.8 on, pickle calls it so)."""
        if isinstance(value, type):
            return repr, ((value.__module__, value.__qualname__),)
        if isinstance(value, types.ModuleType):
            return repr, (value.__name__,)
        if type(value) is CACHED:
            return list, ((value.__wrapped__,),)
        if type(value) is not types.FunctionType:
            return NotImplemented
        if id(value) in self.seen:
            return repr, (value.__qualname__,)
        self.seen.add(id(value))
        cells = [content for cell in value.__closure__ or () for content in contents(cell)]
        names = ((sys.intern(name), each) for name, each in sorted(vars(value).items()))  # or pickle tells them apart
        rest = [cells, value.__defaults__, value.__kwdefaults__, list(names)]
        return list, ((repr(made_of(value.__code__, set())), rest),)


class Contents(pickle.Pickler):
    """Pickles values; of classes, functions and modules that came from elsewhere, only where they are from."""

    def reducer_override(self, value: "Any") -> "Any":
        """Return how to pickle a value (from 3.8 on, pickle calls it so)."""
        if isinstance(value, KINDS) and value in ORIGINS:
            return repr, (ORIGINS[value],)
        return (list, (functions_in(value),)) if type(value) in WRAPPERS else NotImplemented


def content_of(value: "Any") -> "Any":
    """Return something short that is the same when the same value comes again; None if there is no such thing."""
    if isinstance(value, KINDS):
        return ORIGINS.get(value)
    if type(value) in SIMPLE:
        return type(value), value
    buffer = io.BytesIO()
    try:
        Contents(buffer, 4).dump(value)
    except Exception:
        return None
    return hash(buffer.getvalue())
