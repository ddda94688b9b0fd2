"""The target of the tasks: calls the function, and says how that ended."""

import io
import time
import traceback

from ..bundle import OwnModules
from ..function import CONTROLLER, PICKLE, asks_for_controller, load_function
from ..job import exit_status
from ..memory import address_limit, peak_memory
from ..wire.calls import is_for_all, manifest_in, split, without_manifest
from ..wire.limits import KEPT_FUNCTIONS, MAX_EXCEPTION
from ..wire.loader import Loader, World
from ..wire.outcomes import MEMORY, RAISED, RESULT
from ..wire.records import NO_STATUS
from ..wire.values import dump, load
from ..words import explain, out_of_memory
from .controller import Controller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Target(object):
    """The function that the tasks call. Loaded at the first task, so that a failure is that task's outcome."""

    def __init__(
        self,
        function: bytes,
        namespace: bytes,
        loaded: "Callable[[], None]",
        make_controller: "Callable[[], Controller]",
        form: str = PICKLE,
        directory: str = "",
        fits: bool = True,
    ) -> None:
        self.blobs = [without_manifest(function), namespace]
        self.manifest = manifest_in(function)
        self.for_all = is_for_all(function)
        self.modules = OwnModules(directory, fits)
        self.form = form
        self.function = None  # type: Callable[..., Any] | None
        self.asks = None  # type: Callable[..., bool] | None
        self.world = World()
        self.loaded = loaded
        self.make_controller = make_controller
        self.named = {}  # type: dict[bytes, Any]  # by hash: the functions of calls, as pickles until they are needed
        self.loaded_within = {}  # type: dict[bytes, Loaded]  # by their pickles: those that came along
        self.clock = 0.0  # when the task began, the loading of the function left out

    def __call__(self, arguments: bytes) -> "tuple[int, bytes, int]":
        """Return the kind and the value of the outcome, and the status if the task has exited."""
        self.clock = time.perf_counter()
        try:
            manifest = self.manifest
            if arguments[:1] == b"\0":
                theirs, arguments = manifest_in(arguments), without_manifest(arguments)
                manifest = manifest if self.for_all else theirs or manifest
            if self.function is None or manifest != self.modules.manifest:
                try:
                    self.modules.prepare(manifest, self.named)
                except BaseException as error:
                    return blame(error, 1, "the user's own files cannot be had here: ") + (NO_STATUS,)
            if self.function is None:
                try:
                    self.function = self.load_function()
                except BaseException as error:
                    return self.blame(error, 4, "the function cannot be loaded here: ")
            try:
                args, kwargs = self.load(arguments) if arguments[:1] == b"\0" else load(arguments, self.world)
            except BaseException as error:
                return self.blame(error, 1, "the arguments cannot be loaded here: ")
            if self.asks is None or not self.asks(args or (), kwargs):
                result = self.function(*(args or ()), **kwargs)
            else:
                controller = self.make_controller()
                try:
                    result = self.function(*(args or ()), **dict(kwargs, **{CONTROLLER: controller}))
                finally:
                    controller.close()
        except BaseException as error:  # SystemExit and KeyboardInterrupt too are the task's outcome
            kind, text, status = self.blame(error, 1)
            if isinstance(error, SystemExit):
                status = exit_status(error.code)
            return kind, text + enclose(error), status
        try:
            return RESULT, dump(result), NO_STATUS
        except BaseException as error:
            return self.blame(error, 1, "the result, a %s, cannot be serialised: " % type(result).__name__)

    def load_function(self) -> "Callable[..., Any]":
        """Return the function."""
        function = load_function(self.form, self.blobs[0], self.blobs[1], self.world, self.modules)
        self.asks = asks_for_controller(function)
        self.blobs = []
        self.loaded()
        self.clock = time.perf_counter()
        return function

    def try_out(self, names: "list[tuple[str, str]]") -> str:
        """Load the function before its first task, and look up what its calls name; return why that cannot be, if so.

        So it is where another Python than this one has made them: what is fit for that may not be for this.
        """
        try:
            self.modules.prepare(self.manifest, self.named)
            self.function = self.load_function()
            for module, name in names:
                Loader(io.BytesIO(), self.world).find_class(module, name)
        except BaseException as error:
            return self.modules.reason(error)
        return ""

    def blame(self, error: BaseException, skip: int, what: str = "") -> "tuple[int, bytes, int]":
        """Return an outcome that an exception was the end of; it names files as on the user's machine."""
        kind, text = blame(error, skip, what)
        first, line, rest = text.partition(b"\n")
        return kind, self.modules.own_names(first + self.advise(error).encode() + line + rest), NO_STATUS

    def advise(self, error: BaseException) -> str:
        """Return what to do about a file or a module that did not travel, if that is it."""
        own = self.modules.own
        reason = own.why_not_found(error) if own is not None else ""
        if reason:
            return reason
        if isinstance(error, ModuleNotFoundError) and error.name:
            return " (if %s is your own, name it in ship=[...]; if it is installed, see packages)" % error.name
        file = str(error.filename) if isinstance(error, FileNotFoundError) else ""
        if own is not None and file.startswith(own.place + "/"):
            return " (it did not travel: name it in ship=[...], if it is there on your machine)"
        return ""

    def load(self, call: bytes) -> "tuple[tuple[Any, ...] | None, dict[str, Any]]":
        """Return the arguments of a call of another function, which is the first of them. It is loaded once."""
        name, pickled, rest = split(call)
        if name:
            function = self.named.get(name)
            if function is None:
                raise LookupError("the function of this call is not in the database")
            if isinstance(function, bytes):
                with self.modules:
                    function = self.named[name] = Loaded(function)
        else:
            function = self.loaded_within.get(pickled)
            if function is None:
                if len(self.loaded_within) >= KEPT_FUNCTIONS:
                    self.loaded_within.clear()
                with self.modules:
                    function = self.loaded_within[pickled] = Loaded(pickled)
        args, kwargs = load(rest, function.world)
        return (function.value,) + args, kwargs


class Loaded(object):
    """A function of which there is no pickle any more, and its world: what it keeps there no other one sees."""

    def __init__(self, pickled: bytes) -> None:
        self.world = World()
        self.value = load(pickled, self.world)


def blame(error: BaseException, skip: int, what: str = "") -> "tuple[int, bytes]":
    """Return the kind and the text of an outcome that an exception was the end of."""
    if not isinstance(error, MemoryError):
        return RAISED, what.encode() + explain(error, skip)
    traceback.clear_frames(error.__traceback__)  # so that there is memory for the words
    return MEMORY, (out_of_memory(peak_memory(), address_limit()) + "; " + what).encode() + explain(error, skip)


def enclose(error: BaseException) -> bytes:
    """Return what follows an exception's text, so that it can be raised where its task came from: a NUL, its pickle.

    Nothing if it cannot be pickled, or is too large: the text will do.
    """
    try:
        pickled = dump(error)
    except BaseException:
        return b""
    return b"\0" + pickled if len(pickled) <= MAX_EXCEPTION else b""
