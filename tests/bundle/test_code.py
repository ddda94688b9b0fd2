"""What code imports and uses, without running it."""

import ast
import sysconfig
from pathlib import Path
from textwrap import dedent

import pytest

from sheepdog.bundle.code import ANY, Import, Look, code_of, look_at, looks, with_inner


def look(source: str) -> Look:
    return look_at(compile(dedent(source), "x.py", "exec", dont_inherit=True))


def test_imports_of_all_kinds() -> None:
    found = look("""
        import a, b.c as d
        from . import e, f
        from ..g.h import i as j
        from k import *
        def inside():
            import l
            class C:
                def m(self): from .n import o
        if a:
            import p
        elif b:
            import q
        else:
            import r
        try:
            import s
        except ImportError:
            import t
        for u in a: import v
        import w
        TYPE_CHECKING = False
        if TYPE_CHECKING:
            import x
        import y
    """).imports
    certain = [(each.level, each.name, each.members) for each in found if each.certain]
    assert certain == [
        (0, "a", ()),
        (0, "b.c", ()),
        (1, "", ("e", "f")),
        (2, "g.h", ("i",)),
        (0, "k", ("*",)),
        (0, "w", ()),
        (0, "y", ()),
    ]
    assert {each.name for each in found if not each.certain} == {"l", "n", "p", "q", "r", "s", "t", "v", "x"}


def test_names_that_are_texts() -> None:
    found = look("""
        import importlib
        def f(): return importlib.import_module("plugins.one"), importlib.import_module(".two", __package__), "no way"
        def g(): return "not.imported"
    """).imports
    assert {each.name for each in found} == {"importlib", "plugins.one", ".two"}
    assert Import(0, "plugins") in look("def f(name): return __import__(f'plugins.{name}')").imports
    assert look("x = __import__('a.b')").imports == (Import(0, "a.b"),)


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("def f(name): return __import__(name)", True),
        ("import importlib\ndef f(name): return importlib.import_module(name)", True),
        ("def f(name):\n    from importlib import import_module\n    return import_module(name)", True),
        ("import importlib\ndef f(name): return importlib.import_module(f'plugins.{name}')", True),
        ("from importlib import import_module\ndef f(names): return list(map(import_module, names))", True),
        ("from importlib import import_module\nx = import_module('plugins.' + name)", True),
        ("from importlib import import_module\ndef f(): return import_module('a', __package__)", False),
        ("import importlib\ndef f(): return importlib.import_module('a')", False),
        ("import importlib.resources\ndef f(name): return importlib.resources.files(name)", False),
    ],
)
def test_names_that_are_made(source: str, made: bool) -> None:
    assert (ANY in look(source).imports) == made


def test_a_module_with_more_than_256_constants_and_names() -> None:
    many = "\n".join(f"n{number} = {number}.5" for number in range(700))
    found = look(f"{many}\nfrom ..far import away\nimport near\nlast = 'x'")
    assert found.imports == (Import(2, "far", ("away",), True), Import(0, "near", (), True))
    assert found.constants["n699"] == 699.5
    assert found.constants["last"] == "x"


def test_names_that_functions_use() -> None:
    found = look("""
        A = B = 1
        class C:
            D = 2
            def m(self): return E.F, getattr(E, "G"), lambda: H
        I = A + 1
    """)
    assert {"E", "F", "G", "H"} <= found.names
    assert not {"A", "B", "D", "I"} & found.names
    assert {"A", "I"} <= found.outside


def test_what_is_set_once_to_a_constant() -> None:
    found = look("""
        A = 1
        B = 1
        B = 2
        C = (1, "x")
        D = [1]
        E = -3
        class F:
            G = None
        def f():
            H = 1
        if A: I = 1
        for _ in C: J = 1
        try:
            K = 1
        except E:
            L = 1
        else:
            M = 1
        with A: N = 1
        while A:
            O = 1
            break
        match A:
            case 1: P = 1
        class Q:
            if A: R = 1
            S = 1
        if A:
            class T: U = 1
        else:
            class T: U = 2
        V = 1
        print(V, A, B, C)
    """)
    assert {name: value for name, value in found.constants.items() if "__" not in name} == {
        "A": 1,
        "C": (1, "x"),
        "E": -3,
        "F.G": None,
        "Q.S": 1,
        "T.U": ...,
        "V": 1,
    }


def test_what_a_function_sets_together() -> None:
    found = look("""
        def f():
            global a, b
            a, b = 1, x
            def g():
                global c
                c = d = 3
        def h(cls): cls.p, cls.q = 1, 2
        def i(self): self.p = 1
    """)
    assert sorted([*map(sorted, each)] for each in found.together) == [
        [[], ["p", "q"], ["p", "q"]],
        [["a", "b"], [], ["a", "b", "x"]],
        [["c"], [], ["c"]],
    ]


def test_a_function_is_known_again_and_told_from_a_changed_one() -> None:
    before, after = look("def f(x): return x + 1"), look("def f(x): return x - 1")
    assert before.marks == look("def f(x): return x + 1").marks
    assert before.marks != after.marks
    assert before.marks != look("\ndef f(x): return x + 1").marks


@pytest.mark.slow
def test_the_standard_library_as_its_grammar_says() -> None:
    """Another way to the same answer: but for what the compiler leaves out, and which imports are certain."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path for path in sorted(folder.glob("*.py")) + sorted(folder.glob("[a-k]*/*.py")) if "test" not in path.parts
    ]
    assert len(files) > 200
    for path in files:
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            continue
        wanted: set[tuple[int, str, tuple[str, ...]]] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                wanted |= {(0, alias.name, ()) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                wanted.add((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        found = {(each.level, each.name, each.members) for each in looks.get(str(path)).imports}
        extra = {each for each in found - wanted if each[2]}
        missing = {each for each in wanted - found if "_" not in each[1]}
        assert not extra, path
        assert len(missing) <= 1, (path, missing)


def test_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "boom.py").write_text("raise SystemExit\ndef f(): pass")
    assert [code.co_name for code in with_inner(code_of(str(tmp_path / "boom.py")))] == ["<module>", "f"]


@pytest.mark.parametrize("content", [b"def f(:", b"a = 1\0", b"\xff = 1"], ids=["grammar", "a NUL", "encoding"])
def test_what_cannot_be_compiled(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "wrong.py").write_bytes(content)
    with pytest.raises(SyntaxError):
        code_of(str(tmp_path / "wrong.py"))
    (tmp_path / "wrong.pyc").write_bytes(content)
    with pytest.raises(SyntaxError):
        code_of(str(tmp_path / "wrong.pyc"))
