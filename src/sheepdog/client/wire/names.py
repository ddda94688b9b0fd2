"""Names in pickles, as another Python has them: where what is not there under its name is here."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

MOVED = {
    ("_operator", "call"): (__name__.rpartition(".wire.")[0] + ".function", "call"),  # 3.11
    ("re", "PatternError"): ("re", "error"),  # 3.13
    ("sre_constants", "error"): ("re", "error"),  # 3.6
}
MODULES = {
    "asyncio.exceptions": "asyncio",  # 3.8
    "_cffi_ssl._stdssl.error": "ssl",  # PyPy
    "_pypy_generic_alias": "types",
}
PAIRS = (("numpy._core", "numpy.core"), ("numpy.core", "numpy._core"))  # 2, and before


def find_name(look_up: "Callable[[str, str], Any]", module: str, name: str) -> "Any":
    """Return what a pickle names. If it is not there, look where else it may be: that is what other Pythons say."""
    if module == "sre_constants":  # 3.11 warns of that
        module, name = MOVED.get((module, name), (module, name))
    try:
        return look_up(module, name)
    except (ImportError, AttributeError):
        for place in others(module, name):
            try:
                return look_up(*place)
            except (ImportError, AttributeError):
                pass
        raise


def others(module: str, name: str) -> "Iterator[tuple[str, str]]":
    """Yield under which names something may be that is not there: for private ones, the public ones above."""
    if (module, name) in MOVED:
        yield MOVED[module, name]
    if module in MODULES:
        yield MODULES[module], name
    for old, new in PAIRS:
        if (module + ".").startswith(old + "."):
            yield new + module[len(old) :], name
    parts = module.split(".")
    private = [place for place, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")]
    if private:
        yield ".".join(parts[: private[0]]) or module[1:], name
