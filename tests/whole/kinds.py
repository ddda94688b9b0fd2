"""A script that sends one object of each kind that cloudpickle carries, and some of those that nothing can carry.

It prints what was not the same there, or in what came home, of each kind; and the words with which others are refused.
"""

OWN = {
    "own/__init__.py": """
        import sys, types, typing
        class Single:
            def __reduce__(self): return "ONLY"
        ONLY = Single()
        T = typing.TypeVar("T")
        def relative(x):
            from . import other
            from .other import double
            return double(x) + other.ONE
        made = types.ModuleType("own.made")
        made.number = 3
        exec("def get(): return number", vars(made))
        sys.modules["own.made"] = made
    """,
    "own/other.py": "ONE = 1\ndef double(x): return 2 * x\n",
}

PROGRAM = '''
import abc, asyncio, collections, copyreg, dataclasses, enum, functools, inspect, io, itertools, json, logging, math
import multiprocessing, operator, os, pickle, socket, string, sys, tempfile, threading, types, typing, weakref
import xml.etree.ElementTree

import numpy
import sheepdog

import own, own.made

COUNT = 7
UNIT = "m"
BACKEND = [UNIT]

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def counted(x): return x + COUNT
class Level(enum.Enum):
    LOW, HIGH = 1, 2
    @property
    def next(self): return Level.HIGH
class Weight(enum.IntEnum):
    LIGHT = 1
class Flag(enum.Flag):
    A = enum.auto()
    B = enum.auto()
@dataclasses.dataclass(order=True)
class Item:
    name: str
    tags: list = dataclasses.field(default_factory=list, compare=False)
    kind: typing.ClassVar[str] = "item"
    start: dataclasses.InitVar[int] = 0
    def __post_init__(self, start): self.total = start + COUNT
Pair = collections.namedtuple("Pair", "left right")
class Triple(typing.NamedTuple):
    a: int
    b: str = "b"
    def both(self): return self.a, self.b
K = typing.TypeVar("K")
class Box(typing.Generic[K]):
    def __init__(self, content: K): self.content = content
class IntBox(Box[int]):
    pass
class Meta(type):
    def __new__(meta, name, bases, names): return super().__new__(meta, name, bases, dict(names, made_by=meta.__name__))
    @property
    def size(cls): return len(cls.__name__)
class Made(metaclass=Meta):
    pass
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): "What it covers."
    @classmethod
    @abc.abstractmethod
    def of(cls): "One of these."
    @staticmethod
    @abc.abstractmethod
    def corners(): "How many."
    @property
    @abc.abstractmethod
    def name(self): "What it is called."
class Square(Shape):
    def area(self): return 4
    @classmethod
    def of(cls): return cls()
    @staticmethod
    def corners(): return 4
    @property
    def name(self): return "square"
class Coded:
    def __init__(self, x): self.x = x
copyreg.pickle(Coded, lambda value: (Coded, (value.x + 1,)))

KINDS = []
def kind(make):
    KINDS.append(make)
    return make

# Functions

@kind
def a_lambda(): return lambda x: x + 1, lambda f: f(1)
@kind
def a_lambda_in_a_lambda(): return lambda a: lambda b: lambda c: (a, b, c), lambda f: f(1)(2)(3)
@kind
def a_function_of_the_script(): return counted, lambda f: (f(1), f.__module__, f.__qualname__, f.__name__)
@kind
def functions_that_call_each_other(): return even, lambda f: (f(10), f(7))
@kind
def a_closure_that_calls_itself():
    def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
    return factorial, lambda f: f(5)
@kind
def a_closure_over_none():
    nothing = None
    return lambda: nothing, lambda f: (f(), len(f.__closure__))
@kind
def a_closure_over_what_is_not_set():
    if COUNT == 0:
        later = 1
    def get(): return later
    def probe(f):
        try: return f()
        except NameError as error: return type(error).__name__
    return get, probe
@kind
def a_closure_over_what_has_no_hash():
    names = {"a": [1], "b": {2}}
    return lambda: sorted(map(str, names.values())), lambda f: f()
@kind
def a_closure_with_a_global_of_the_same_name():
    def outer(COUNT):
        def inner(): return COUNT, counted(0)
        return inner
    return outer("local"), lambda f: f()
@kind
def functions_that_share_a_global():
    def put(): BACKEND.append(UNIT)
    def get(): return BACKEND
    return (put, get), lambda both: both[0].__globals__ is both[1].__globals__
@kind
def a_cell(): return (lambda x: lambda: x)(3).__closure__[0], lambda cell: cell.cell_contents
@kind
def names_in_functions_inside():
    def f():
        def g():
            class C:
                def m(self): return [COUNT for _ in range(1)]
            return C().m()
        return g()
    return f, lambda f: f()
@kind
def a_submodule_by_its_full_name(): return lambda: xml.etree.ElementTree.fromstring("<a/>").tag, lambda f: f()
@kind
def a_submodule_in_a_closure():
    tree = xml.etree.ElementTree
    return lambda: tree.fromstring("<a/>").tag, lambda f: f()
@kind
def an_import_inside():
    def f():
        import decimal, os.path as path
        from collections import abc as names
        return str(decimal.Decimal(1)), path.basename("/a/b"), names.Sized.__name__
    return f, lambda f: f()
@kind
def a_relative_import_inside(): return own.relative, lambda f: f(3)
@kind
def more_constants_than_a_byte_counts():
    names = {}
    exec("def f():\\n" + "".join(f"  a{n} = {n}.5\\n" for n in range(300)) + "  return a0 + a299", names)
    return names["f"], lambda f: f()
@kind
def a_generator_function():
    def f(n): yield from range(n)
    return f, lambda f: list(f(3))
@kind
def a_coroutine_function():
    async def f(x):
        await asyncio.sleep(0)
        return x + COUNT
    return f, lambda f: asyncio.run(f(1))
@kind
def an_asynchronous_generator_function():
    async def f():
        for x in range(3): yield x
    async def collect(f): return [x async for x in f()]
    return f, lambda f: asyncio.run(collect(f))
@kind
def a_generator_that_is_a_coroutine():
    @types.coroutine
    def step():
        got = yield "ask"
        return got
    async def f(): return await step()
    def probe(f):
        run = f()
        asked = run.send(None)
        try: run.send(4)
        except StopIteration as end: return asked, end.value
    return f, probe
@kind
def parameters_of_all_sorts():
    def f(a, /, b, *c, d=COUNT, e, **g): return a, b, c, d, e, g
    return f, lambda f: (f(1, 2, 3, e=4, h=5), str(inspect.signature(f)))
@kind
def attributes_doc_and_annotations():
    def f(x: int, y: "Item" = None) -> typing.Optional[str]:
        "What it does."
    f.note = [1]
    f.__qualname__ = "renamed"
    return f, lambda f: (f.__doc__, str(f.__annotations__["return"]), f.note, f.__qualname__, f.__defaults__)
@kind
def a_function_of_another_name_and_module():
    def f(): pass
    f.__module__, f.__name__ = "nowhere.at.all", "other"
    return f, lambda f: (f.__module__, f.__name__)
@kind
def a_function_without_a_module():
    def f(): return COUNT
    f.__module__ = None
    return f, lambda f: (f.__module__, f())
@kind
def annotations_of_a_class_of_its_own():
    class Local: pass
    def f(x: Local) -> Local: return type(x) is f.__annotations__["x"]
    return (f, Local), lambda both: both[0](both[1]())
@kind
def a_decorated_function():
    def twice(f):
        @functools.wraps(f)
        def inner(*args): return 2 * f(*args)
        return inner
    @twice
    def f(x: int) -> int:
        "Say it."
        return x
    return f, lambda f: (f(2), f.__name__, f.__doc__, f.__annotations__, f.__wrapped__(2))
@kind
def a_partial(): return functools.partial(pow, exp=2), lambda f: (f(3), f.keywords)
@kind
def partials_of_what_goes_by_value():
    f = functools.partial(lambda x, y: (x, y, COUNT), 1)
    f.note = 2
    return f, lambda f: (f(2), f.note)
@kind
def a_cached_function():
    @functools.lru_cache(maxsize=3)
    def f(x): return -x
    return f, lambda f: (f(1), f(1), f.cache_parameters()["maxsize"])
@kind
def single_dispatch():
    @functools.singledispatch
    def f(x): return "any"
    @f.register
    def _(x: int): return "int"
    return f, lambda f: (f("a"), f(1))
@kind
def getters():
    each = operator.itemgetter(1), operator.attrgetter("real", "imag"), operator.methodcaller("bit_length")
    return each, lambda each: (each[0]("ab"), each[1](2), each[2](4))
@kind
def a_script_that_says_its_name(): return lambda: __name__, lambda f: f()
@kind
def code(): return compile("1 + 2", "somewhere.py", "eval"), lambda c: (eval(c), c.co_filename)
@kind
def numpys_universal_functions():
    return (numpy.add, numpy.linalg.norm), lambda f: (f[0](1, 2).item(), f[1]([3, 4]).item())

# Of built-in types

@kind
def built_in_functions():
    each = abs, len, zip, math.sqrt, json.dumps, itertools.chain, os.getcwd, functools.reduce
    return each, lambda each: [f.__qualname__ for f in each]
@kind
def built_in_types(): return (int, type, object, dict, super, type(None), type(...), type(NotImplemented)), repr
@kind
def types_without_a_name_in_builtins():
    each = types.FunctionType, types.CodeType, types.MappingProxyType, types.GeneratorType, type(len)
    return each, lambda each: [t.__name__ for t in each]
@kind
def methods_of_built_in_objects():
    return ({"a": 1}.get, "a,b".split, [3].count), lambda f: (f[0]("a"), f[1](","), f[2](3))
@kind
def class_methods_of_built_in_types():
    return (bytes.fromhex, dict.fromkeys, int.from_bytes), lambda f: (f[0]("61"), f[1]("a"))
@kind
def slots_of_types(): return (float.__repr__, (1.5).__repr__, list.__len__), lambda f: (f[0](2.5), f[1](), f[2]([1]))
@kind
def static_methods_of_built_in_types(): return (str.maketrans, vars(str)["maketrans"]), lambda f: f[0]("a", "b")
@kind
def methods_of_types(): return (str.upper, list.append, set.union), lambda f: (f[0]("a"), f[2]({1}, {2}))
@kind
def attributes_of_types():
    return (float.real, types.FunctionType.__code__), lambda f: (f[0].__get__(1.5), f[1].__name__)
@kind
def singletons(): return (None, ..., NotImplemented, True), repr

# Classes

@kind
def a_class_with_methods_of_all_sorts():
    class C:
        "Said."
        count = 0
        def __init__(self, x): self._x = x
        @classmethod
        def make(cls, x): return cls(x)
        @staticmethod
        def twice(x): return 2 * x
        @property
        def x(self):
            "The x."
            return self._x
        @x.setter
        def x(self, value): self._x = value
        @x.deleter
        def x(self): self._x = None
    def probe(C):
        c = C.make(1)
        c.x = 5
        first = c.x
        del c.x
        return first, c.x, C.twice(3), C.__doc__, C.x.__doc__, C.__qualname__
    return C, probe
@kind
def methods_bound_and_not():
    class C:
        k = 3
        def get(self): return self.k
        @classmethod
        def of(cls): return cls.k
    return (C().get, C.get, C.of, C), lambda f: (f[0](), f[1](f[3]()), f[2](), vars(f[3])["of"].__get__(None, f[3])())
@kind
def super_in_both_its_forms():
    class Base:
        def f(self): return 1
    class Derived(Base):
        def f(self): return super().f() + 1
        def g(self): return super(Derived, self).f() + 2
    return Derived, lambda C: (C().f(), C().g(), [c.__name__ for c in C.__mro__])
@kind
def a_class_that_knows_itself():
    class C:
        def f(self): return C
    C.itself = C
    return C, lambda C: (C().f() is C, C.itself is C)
@kind
def a_function_and_a_class_that_know_each_other():
    def make(x): return C(x)
    class C:
        def __init__(self, x): self.x = x
        def again(self): return make(self.x + 1)
    return make, lambda f: f(1).again().again().x
@kind
def a_reference_in_a_circle():
    class C: pass
    c = C()
    c.me, c.all = c, [c]
    return c, lambda c: (c.me is c, c.all[0] is c)
@kind
def a_class_made_by_a_call():
    C = type("C", (dict,), {"get": lambda self, key: self[key], "size": 2})
    return C(a=1), lambda c: (c.get("a"), c.size, type(c).__name__)
@kind
def a_metaclass(): return Made, lambda C: (C.made_by, C.size, type(C).__name__)
@kind
def abstract_classes():
    def probe(both):
        try: both[0]()
        except TypeError: refused = True
        square = both[1].of()
        return refused, square.area(), square.name, square.corners(), sorted(both[0].__abstractmethods__)
    return (Shape, Square), probe
@kind
def classes_registered_with_an_abstract_class():
    class Base(abc.ABC): pass
    class Theirs: pass
    class Other: pass
    Base.register(Theirs)
    Base.register(int)
    isinstance(Other(), Base)
    return (Base, Theirs, Other), lambda c: (issubclass(c[1], c[0]), issubclass(int, c[0]), issubclass(c[2], c[0]))
@kind
def slots():
    class C:
        __slots__ = ("a", "b")
        def __init__(self): self.a = 1
    class D(C):
        __slots__ = "c"
    class E(D):
        pass
    d, e = D(), E()
    d.c, e.c, e.other = 2, 3, 4
    each = d, e
    return each, lambda both: (both[0].a, both[0].c, hasattr(both[0], "b"), hasattr(both[0], "__dict__"), vars(both[1]))
@kind
def properties_that_are_computed_once():
    class C:
        @functools.cached_property
        def x(self): return [COUNT]
        @functools.singledispatchmethod
        def f(self, x): return "any"
        @f.register
        def _(self, x: int): return "int"
        p = functools.partialmethod(f, 1)
    return C(), lambda c: (c.x is c.x, c.f("a"), c.f(1), c.p())
@kind
def data_classes():
    return Item("a", start=1), lambda i: (i, i.total, i.kind, Item("a") < Item("b"), dataclasses.asdict(i))
@kind
def fields_of_data_classes():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class C:
        x: int = 3
        y: list = dataclasses.field(default_factory=list, repr=False)
    def probe(c):
        try: c.x = 1
        except dataclasses.FrozenInstanceError: frozen = True
        return frozen, [f.name for f in dataclasses.fields(c)], repr(dataclasses.replace(c, x=4))
    return C(), probe
@kind
def data_classes_with_slots():
    @dataclasses.dataclass(slots=True)
    class C:
        x: int
    return C(3), lambda c: (c.x, c.__slots__, hasattr(c, "__dict__"))
@kind
def enumerations():
    return (Level.LOW, Level, Flag.A | Flag.B), lambda e: (e[0] is e[1].LOW, e[0].next is e[1](2), str(e[2]))
@kind
def enumerations_of_numbers(): return Weight.LIGHT, lambda w: (w + 1, w is Weight(1), repr(w))
@kind
def enumerations_inside():
    class E(str, enum.Enum):
        A = "a"
        B = "b"
        @classmethod
        def first(cls): return cls.A
    return (E, E.B), lambda both: (both[0].first().value, both[1] is both[0]("b"), [e.name for e in both[0]])
@kind
def named_tuples():
    Inner = collections.namedtuple("Inner", "x y", defaults=[2])
    return (Pair(1, 2), Triple(1), Inner(1)), lambda t: (t[0].left, t[1].both(), t[1]._field_defaults, t[2]._asdict())
@kind
def generic_classes():
    each = Box[int], IntBox(3), Box
    return each, lambda b: (b[0].__origin__ is b[2], b[1].content, b[2].__parameters__[0].__name__)
@kind
def generic_classes_inside():
    T = typing.TypeVar("T", bound=int)
    class C(typing.Generic[T]):
        x: T
    class D(C[bool]): pass
    each = C, D, T
    return each, lambda c: (c[0].__parameters__ == (c[2],), c[1].__orig_bases__[0].__origin__ is c[0], c[2].__bound__)
@kind
def type_variables():
    return (K, own.T, typing.AnyStr), lambda t: ([v.__name__ for v in t], Box.__parameters__[0] is t[0])
@kind
def type_hints():
    class C:
        a: int
        b: typing.ClassVar[list]
        c: typing.Final[int] = 3
        d: typing.Literal["x", 1]
        e: typing.Union[int, str, None]
        f: "list[C]"
        g: dict[str, typing.Callable[[int], "C"]]
        h: int | None
    return C, lambda C: sorted((name, str(hint).rpartition(".")[2]) for name, hint in C.__annotations__.items())
@kind
def protocols():
    @typing.runtime_checkable
    class P(typing.Protocol):
        def f(self) -> int: ...
    class Has:
        def f(self): return 1
    return (P, Has), lambda c: (isinstance(c[1](), c[0]), isinstance(3, c[0]))
@kind
def typed_dictionaries():
    class D(typing.TypedDict, total=False):
        x: int
    return D, lambda D: (D(x=1), D.__total__, list(D.__annotations__))
@kind
def errors():
    class Wrong(ValueError):
        def __init__(self, text, number): super().__init__(text, number); self.number = number
    return Wrong("so", 3), lambda e: (e.args, e.number, isinstance(e, ValueError))
@kind
def a_class_without_a_module():
    class C:
        __module__ = None
        def f(self): return 1
    return C(), lambda c: (c.f(), type(c).__module__)
@kind
def a_set_of_weak_references_to_classes():
    class C: pass
    return (weakref.WeakSet([C]), C), lambda both: both[1] in both[0]

# Objects

@kind
def how_a_type_is_pickled_said_late(): return Coded(1), lambda c: c.x > 0
@kind
def what_says_that_it_has_a_name(): return own.ONLY, lambda one: one is own.ONLY
@kind
def views_of_a_memory(): return memoryview(b"0123456789"), bytes
@kind
def views_of_parts_of_a_memory():
    return (memoryview(b"0123456789")[2:7], memoryview(bytes(range(9)))[::3]), lambda m: [bytes(each) for each in m]
@kind
def views_of_large_memories(): return memoryview(b"x" * 10**6), len
@kind
def views_of_dictionaries():
    d = {"a": 1, "b": 2}
    return (d.keys(), d.values(), d.items()), lambda v: [list(each) for each in v]
@kind
def views_of_ordered_dictionaries():
    d = collections.OrderedDict(b=1, a=2)
    return (d.keys(), d.values(), d.items()), lambda v: [list(each) for each in v]
@kind
def dictionaries_that_cannot_be_written(): return types.MappingProxyType({"a": lambda: 1}), lambda m: m["a"]()
@kind
def containers_of_functions():
    each = collections.defaultdict(lambda: 4), collections.deque([abs], 2), collections.ChainMap({"a": len})
    return each, lambda c: (c[0][1], c[1][0](-1), c[2]["a"]("ab"))
@kind
def iterators(): return (itertools.count(2, 3), iter([1]), range(3)), lambda i: (repr(i[0]), list(i[2]))
@kind
def loggers(): return (logging.getLogger("a.b"), logging.getLogger()), lambda each: [log.name for log in each]
@kind
def standard_streams(): return sys.stderr, lambda s: s is sys.stderr
@kind
def files_that_are_read():
    path = os.path.join(tempfile.mkdtemp(dir=os.getcwd()), "x.txt")
    with open(path, "w") as file: file.write("one two")
    file = open(path)
    file.seek(4)
    return file, lambda f: (f.read(), f.seek(0), f.read(), f.seek(4))[:3]
@kind
def texts_and_bytes_as_files():
    return (io.StringIO("a"), io.BytesIO(b"b")), lambda f: (f[0].getvalue(), f[1].getvalue())
@kind
def formatters_of_texts():
    class Shout(string.Formatter):
        def format_field(self, value, spec): return str(value).upper()
    return Shout(), lambda f: f.format("{0}", "a")

# Modules

@kind
def modules(): return (math, xml.etree.ElementTree, own), lambda m: [each.__name__ for each in m]
@kind
def modules_made_at_run_time():
    m = types.ModuleType("made_here", "Said.")
    exec("""if True:
        n = 1
        def f(x): return abs(x) + n
        def itself(): return f
        class C:
            def get(self): return f(n)
        """, vars(m))
    return m, lambda m: (m.f(-1), m.itself() is m.f, m.C().get(), m.__doc__, m.__name__, sys.modules.get(m.__name__))
@kind
def what_is_in_modules_made_at_run_time():
    m = types.ModuleType("made_too")
    exec("n = 1\\ndef f():\\n  global n\\n  n += 1\\n  return n\\ndef reset():\\n  global n\\n  n = 1", vars(m))
    return (m.f, m.reset), lambda f: (f[0](), f[0](), f[1]())
@kind
def modules_that_a_package_makes(): return own.made.get, lambda f: f()
@kind
def modules_in_a_process_of_the_task():
    m = types.ModuleType("made_deep")
    exec("def f(x): return x + 1", vars(m))
    def probe(m):
        ours, theirs = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(m.f(1)))
        child.start()
        answer = ours.recv()
        child.join()
        return answer
    return m, probe
@kind
def beside_a_module_that_answers_with_errors():
    class Faulty:
        def __getattr__(self, name): raise RuntimeError(name)
    sys.modules["faulty_one"] = Faulty()
    class C:
        def f(self): return 3
    return C(), lambda c: c.f()

# What is refused

class Raises:
    def __reduce__(self): raise ValueError("it will not")
class Endless:
    def __getattribute__(self, name): return getattr(self, name)
async def waits(): pass
def refused():
    written = open(os.path.join(tempfile.mkdtemp(dir=os.getcwd()), "x.txt"), "w")
    closed = open(written.name)
    closed.close()
    lock, wait = threading.Lock(), waits()
    wait.close()
    return {
        "a generator": (x for x in "a"), "a coroutine": wait, "a lock": lock, "a lock in a closure": lambda: lock,
        "a lock of processes": multiprocessing.Lock(), "a condition": threading.Condition(),
        "what threads have": threading.local(), "a weak reference": weakref.ref(Raises),
        "a file to be written": written,
        "a closed file": closed, "a file of bytes": open(written.name, "rb"), "standard input": sys.stdin,
        "a socket": socket.socket(), "a frame": sys._getframe(), "what raises an error": Raises(),
        "what never answers": Endless(), "a class method as it lies in a built-in type": vars(float)["fromhex"],
    }

def task(probe, value):
    return repr(probe(value)), value

if __name__ == "__main__":
    config = {"scheduler": "local", "workers": 1}
    said = {}
    expected = [repr(probe(value)) for value, probe in (make() for make in KINDS)]
    sent = [make() for make in KINDS]
    results = sheepdog.map(task, [(probe, value) for value, probe in sent], config, verbose=False)
    lost = [index for index, result in enumerate(results) if result is None]
    wrong = dict(zip(lost, sheepdog.get_errors(1, "sheepdog.sqlite")))
    for index, (make, (value, probe), here, result) in enumerate(zip(KINDS, sent, expected, results)):
        if result is None:
            said[make.__name__] = f"{here}, and there: {wrong[index][1]}"
            continue
        there, back = result
        again = repr(probe(back))
        one, other = (each if isinstance(each, tuple) else (each,) for each in (value, back))
        own_again = all(a is b for a, b in zip(one, other) if isinstance(a, (type, enum.Enum)))
        same = here == there == again and own_again
        said[make.__name__] = "same" if same else f"{here}, there {there}, come back {again}, the same: {own_again}"
    words = {}
    for name, value in refused().items():
        try:
            sheepdog.map(task, [(len, value)], config, verbose=False)
        except Exception as error:
            words[name] = str(error)
    print(json.dumps([said, words]))
'''
