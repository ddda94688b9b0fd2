"""The relay of a head node: there is one while a request there has workers that may call it."""

from __future__ import annotations

from collections.abc import Sequence

from ...deployment.relay import Relay
from ...deployment.ssh import SSHHost
from ...schedulers import submit as submission
from ..decide import clock
from ..decide.clock import Watched
from .nodes import Context, relayed


def keep_relay(context: Context, watched: Sequence[Watched]) -> None:
    """Begin a relay, or end it; tell of what is wrong with it."""
    served = [each for each in watched if each.options.relays]
    if served and context.relay is None and context.port:
        with context.apart(served[0].request.id):
            context.relay = make_relay(context, served)
    elif not served and context.relay is not None:
        context.relay.leave()
        context.relay = None
    if context.relay is not None:
        context.decide(clock.learn_relay, [each.request.id for each in served], context.relay.trouble)


def make_relay(context: Context, served: Sequence[Watched]) -> Relay | None:
    """Return a relay that has begun, for these requests; None where there can be none: the host is this machine.

    Workers may know one that a server before this one has had: it is to be at the same place.
    """
    options = served[0].options
    host = submission.host_of(options.config)
    if not isinstance(host, SSHHost):
        return None
    arrays = [array for each in served for array in (*each.arrays, *each.past)]
    known = max((array.urls for array in arrays), key=lambda urls: len(relayed(urls)), default=())
    pythons = [*dict.fromkeys((submission.python_of(options), options.command))]
    server = f"{context.certificate}\0{context.key}"
    relay = Relay(host, pythons, int(context.port), server, relayed(known))
    relay.start()
    return relay
