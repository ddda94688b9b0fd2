"""The link: how a worker's calls reach the server, and the replies the worker.

A link carries one call at a time, and tries each once. When to call, and when again, is the rhythm's to say
(parent/rhythm.py). What is said is the worker's: a link changes nothing in it. If the reply is lost, nobody knows
whether the call has arrived: it is made again, with another number in its header, and the other side takes it so.
"""

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence  # noqa: F401 (named in a comment)
    from typing import Any

    from ..wire.frames import Blob

    Answer = tuple[dict[str, Any], list[Blob]]  # header and blobs


class Later(Exception):
    """The other side is away, or busy: the call may be made again, after so many seconds at least."""

    def __init__(self, text: str, seconds: float = 0.0) -> None:
        super(Later, self).__init__(text)
        self.seconds = seconds


class Over(Exception):
    """There is nothing to do any more: the worker ends, and all is well."""


class Refused(Exception):
    """The server will not have this worker, or has not answered for too long: it ends."""


class Link(object):
    """The contract. tests/client/link/test_contract.py holds every link to it.

    silence is how many seconds a worker may let pass from one call to the next. It is a fraction of the time after
    which the server takes it for lost, so that some calls may fail. The link knows it once it has joined.

    where is the other side's place, for people. It changes when the other side has moved: then a call is due at once.
    """

    silence = 20.0

    way = ("", "", "")  # type: tuple[str, str, str]
    """The way that the last call took, the place to which, and why no better one was taken: for people."""

    @property
    def where(self) -> str:
        """Where the other side is."""
        raise NotImplementedError

    def join(self, about: "dict[str, Any]") -> "Answer":
        """Say what this worker is; return the settings and the function. Raise Later, Over or Refused."""
        raise NotImplementedError

    def exchange(self, header: "dict[str, Any]", blobs: "Sequence[Blob]", deadline: float) -> "Answer":
        """Bring a call; return the reply. Raise Later, Over or Refused.

        A call that stands still until the deadline, by time.monotonic, is given up; one that moves may go on. The link
        may give it up earlier. Large blobs of the reply are open files; who called closes them.
        """
        raise NotImplementedError

    def interrupt(self) -> None:
        """Let a call that is under way raise Later now. Signal handlers and other threads call this at any time."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the link holds. A call after this opens it again."""
        raise NotImplementedError


LINKS = {"https": "https.HttpsLink", "relay": "https.HttpsLink"}
# by the scheme of an address: the module here and the class; imported when it is chosen, for the contract needs no TLS


def make_link(secret: "dict[str, Any]") -> Link:
    """Return the link that secret.json asks for, by the scheme of the server's address; Refused if there is none.

    There may be none yet of a relay.
    """
    first = (list(secret["urls"]) or ["relay://"])[0]
    scheme, colon, _ = first.partition("://")
    if scheme in LINKS and colon:
        module, name = LINKS[scheme].split(".")
        kind = getattr(importlib.import_module("." + module, __name__), name)  # type: Callable[[dict[str, Any]], Link]
        return kind(secret)
    raise Refused(
        "this worker reaches servers at https:// only, not at %r, as secret.json says: "
        "submit the request again with the Sheepdog that serves it" % first
    )
