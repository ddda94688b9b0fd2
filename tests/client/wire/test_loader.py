"""The loader: what is here is taken, at home and in a worker's world. (All doors are in tests/whole/test_here.py.)"""

import functools
import sys
import types
from typing import Any

import pytest

from sheepdog.bundle.needs import Needs, dumps, everything
from sheepdog.client import dump, load
from sheepdog.client.wire.loader import World
from sheepdog.client.wire.origins import KNOWN, ORIGINS

SOURCE = """
import functools
LIMIT = 1
class Kind:
    number = 1
    def limit(self): return LIMIT
def limit(): return LIMIT
@functools.lru_cache
def cached(): return LIMIT
anonymous = lambda: LIMIT
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module as `__main__` is: what is in it goes by value."""
    made = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", made)
    exec(SOURCE, vars(made))
    return made


NAMES = ["Kind", "limit", "cached", "anonymous"]


@pytest.mark.parametrize("name", NAMES)
def test_at_home_all_is_what_is_here(module: Any, name: str) -> None:
    value = getattr(module, name)
    before = {**vars(value)}
    assert load(dump([value])) == [value]
    there = load(dump([value]), World())[0]
    assert there is not value
    assert load(dump([there])) == [value]
    assert {**vars(value)} == before


def test_of_a_class_that_was_defined_again_the_one_that_has_the_name_is_taken(module: Any) -> None:
    """As when the cell of a notebook is run again. What a garbage collection has left does not count."""
    first, data = module.Kind, dump(module.Kind())
    exec(SOURCE, vars(module))
    assert type(load(data)) is module.Kind is not first
    assert type(load(dump(module.Kind()))) is module.Kind


HOLDERS = """
import functools, types
held, fixed = [1], (1,)
def closing(held):
    def holder(): return held[0]
    return holder
holder = closing(held)
def usual(held=held): return held[0]
def named(*, held=held): return held[0]
def marked(): return marked.held[0]
marked.held = held
@functools.wraps(marked)
def wrapped(): return holder()
@functools.lru_cache
def cached(held=held): return held[0]
anonymous = lambda held=held: held[0]
many = lambda inner=types.SimpleNamespace(holder=holder): inner.holder()
"""


@pytest.mark.parametrize("name", ["holder", "usual", "named", "marked", "wrapped", "cached", "anonymous", "many"])
def test_a_function_that_holds_values_comes_with_them_each_time(module: Any, name: str) -> None:
    exec(HOLDERS, vars(module))
    function, world = getattr(module, name), World()
    assert load(dump(function), world)() == load(dump(function))() == 1
    sent = dump(function)
    for number in (2, 3, 2):
        module.held[0] = number
        assert load(dump(function), world)() == number
        if name == "cached":
            module.cached.cache_clear()
    came = load(sent)
    assert (came(), function()) == (1, 2)
    assert came is not function


@pytest.mark.parametrize("name", ["holder", "usual", "wrapped", "anonymous"])
def test_one_that_holds_what_it_held_is_the_one_that_is_here(module: Any, name: str) -> None:
    exec(HOLDERS, vars(module))
    function = getattr(module, name)
    assert load(dump(load(dump(function), World()))) is function


def test_what_holds_what_cannot_be_told_comes_each_time(module: Any) -> None:
    module.held = [types.SimpleNamespace(inner=lambda: 1)]
    exec("def usual(held=held): return held[0].inner()", vars(module))
    world = World()
    assert load(dump(module.usual), world)() == 1
    module.held[0].inner = lambda: 2
    assert load(dump(module.usual), world)() == 2


def test_what_is_gone_there_is_gone_here(module: Any) -> None:
    """And what a task has put there stays."""
    exec("class Base:\n    def rate(self): return 1\nclass Each(Base): pass\nFEE = 1\nMORE = 2", vars(module))
    exec("def pay(): return FEE\ndef both(): return [FEE for _ in range(MORE)]", vars(module))
    world = World()
    module.Each.rate = lambda _: -1
    there, pay, both = load(dump([module.Each(), module.pay, module.both]), world)
    assert (there.rate(), pay(), both()) == (-1, 1, [1, 1])
    type(there).own = pay.__globals__["OWN"] = 5
    del module.Each.rate, module.FEE
    again, pay = load(dump([module.Each(), module.pay]), world)
    assert (again.rate(), again.own, pay.__globals__["OWN"], pay.__globals__["MORE"]) == (1, 5, 5, 2)
    with pytest.raises(NameError, match="FEE"):
        pay()


def test_a_class_that_is_another_by_now_is_made_anew(module: Any) -> None:
    data = dump(module.Kind())
    ORIGINS.clear()
    KNOWN.clear()
    assert type(load(data)) is module.Kind
    exec(SOURCE.replace("return LIMIT", "return -LIMIT"), vars(module))
    ORIGINS.clear()
    KNOWN.clear()
    found = load(data)
    assert type(found) is not module.Kind
    assert (found.limit(), module.Kind().limit()) == (1, -1)


def test_each_world_has_its_own(module: Any) -> None:
    data = dump(module.Kind())
    world = World()
    first, second, other = load(data, world), load(data, world), load(data, World())
    assert type(first) is type(second)
    assert type(other) not in (type(first), module.Kind)
    type(first).number = 5
    assert type(load(data, world)).number == 5
    assert type(other).number == 1


def test_a_world_takes_what_is_new_and_keeps_the_rest(module: Any) -> None:
    world = World()
    found = load(dump([module.Kind(), module.limit, module.anonymous, module.cached]), world)
    found[1].__globals__["LIMIT"] = 7
    assert [found[0].limit(), found[1](), found[2](), found[3]()] == [7] * 4
    assert load(dump(module.Kind()), world).limit() == 7
    module.Kind.number = module.LIMIT = 3
    again = load(dump(module.Kind()), world)
    assert (type(again), again.number, again.limit(), found[2](), found[3]()) == (type(found[0]), 3, 3, 3, 7)


def test_ns_wins(module: Any) -> None:
    world = World()
    step = load(dump(module.limit), world)
    step.__globals__.update(LIMIT=9)
    world.give({"LIMIT": 9})
    assert [load(dump(module.Kind()), world).limit(), step()] == [9, 9]


def test_modules_that_import_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "one_of_two.py").write_text("import two_of_two\nX = 1\ndef get(): return two_of_two.one_of_two.X\n")
    (tmp_path / "two_of_two.py").write_text("import one_of_two\n")
    monkeypatch.syspath_prepend(tmp_path)
    import one_of_two  # type: ignore[import-not-found]

    data = dumps([one_of_two, one_of_two.get], everything(), Needs())
    assert load(data) == [one_of_two, one_of_two.get]
    there, get = load(data, World())
    assert there is not one_of_two
    there.X = 2
    assert get() == 2


def test_functions_that_no_name_leads_to_are_made_anew(module: Any) -> None:
    functions = [functools.partial(eval("lambda k: lambda: k")(k)) for k in (1, 2)]
    assert [f() for f in load(dump(functions))] == [1, 2]
