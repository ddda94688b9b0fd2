"""When there is a relay, and what workers and users are told of it."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sheepdog.deployment.relay import Relay
from sheepdog.storage import Storage
from tests.schedulers.head import Head
from tests.server.scheduling.fakes import FakeScheduler, Farm
from tests.waiting import until

# It does with the command what sshd does: it hands one text to a shell.
SSH = """#!/bin/sh
case " $* " in
  *" -G "*) echo userknownhostsfile x; exit;;
  *" -O "*) exit;;
esac
for word; do :; done
exec sh -c "$word"
"""


@pytest.fixture
def far(head: Head) -> Head:
    """A head node that ssh reaches, with a Python."""
    (head.bin / "ssh").write_text(SSH)
    (head.bin / "ssh").chmod(0o755)
    (head.bin / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (head.bin / "python3").chmod(0o755)
    return head


Make = Callable[[], Farm]


@pytest.fixture
def server(storage: Storage, far: Head) -> Iterator[Make]:
    """Make servers, one after the other."""
    made: list[Farm] = []

    def make() -> Farm:
        for farm in made:
            end(farm)
        made.append(Farm(storage, far.home))
        return made[-1]

    yield make
    for farm in made:
        end(farm)


def relays(farm: Farm) -> list[Relay]:
    return [each.context.relay for each in farm.thread.watchers.values() if each.context.relay is not None]


def end(farm: Farm) -> None:
    for relay in relays(farm):
        relay.leave()
        relay.join()


def begun(farm: Farm) -> Relay:
    """Look; return the relay that there is then, when it works."""
    farm.look()
    [relay] = relays(farm)
    until(lambda: relay.works, "it is there")
    return relay


def told(farm: Farm, request: int) -> list[str]:
    """Return which addresses of relays the workers of a request have been told, by the store and by their secret."""
    urls = [url for url in farm.storage.arrays(request)[0].urls if url.startswith("relay://")]
    secret = json.loads(Path(farm.storage.arrays(request)[0].directory, "secret.json").read_text())
    assert [url for url in secret.get("urls", ()) if url.startswith("relay://")] == urls
    return urls


def test_workers_are_told_of_it_and_it_ends_with_the_requests(server: Make) -> None:
    farm = server()
    one, other = farm.request("1", link="auto"), farm.request("2", link="relay")
    farm.put(one, FakeScheduler())
    relay = begun(farm)
    farm.look()
    assert told(farm, one) == told(farm, other) == list(relay.urls)
    assert [url for url in farm.storage.arrays(one)[0].urls if url.startswith("https://")] == ["https://me:4000"]
    assert farm.storage.arrays(other)[0].urls == relay.urls
    farm.finish(one)
    farm.look()
    assert relays(farm) == [relay]
    farm.finish(other)
    farm.look()
    until(lambda: not relay.is_alive(), "it has ended")


@pytest.mark.parametrize(("host", "link"), [("head", "direct"), (None, "auto")])
def test_there_is_none_if_nobody_may_call_it(server: Make, host: str | None, link: str) -> None:
    farm = server()
    farm.put(farm.request("1", host, link=link), FakeScheduler())
    farm.look()
    assert relays(farm) == []


def test_that_of_the_next_server_is_where_it_was(server: Make) -> None:
    farm = server()
    request = farm.request("1", link="auto")
    farm.put(request, FakeScheduler())
    relay = begun(farm)
    farm.look()
    again = server()
    again.put(request, FakeScheduler())
    again.look()
    assert told(again, request) == list(relay.urls)  # meanwhile, too
    assert begun(again).urls == relay.urls


def test_one_for_each_head_node(server: Make) -> None:
    """Two schedulers of one host are two head nodes: neither's relay takes the other's for one that was left."""
    farm = server()
    one, other = farm.request("1", link="auto"), farm.request("2", link="auto", scheduler="slurm")
    farm.put(one, FakeScheduler())
    farm.put(other, FakeScheduler())
    farm.look()
    until(lambda: len(relays(farm)) == 2 and all(each.works for each in relays(farm)), "both are there")
    assert len({each.key for each in relays(farm)}) == 2


def test_why_there_is_none(server: Make, far: Head) -> None:
    (far.bin / "python3").unlink()
    farm = server()
    one, other = (farm.request(job, link=link, shell="py") for job, link in (("1", "relay"), ("2", "auto")))
    farm.put(one, FakeScheduler())
    farm.look()
    [relay] = relays(farm)
    until(lambda: relay.trouble, "it has failed")
    farm.look()
    why = "there is no relay on head: none of these is a Python there, 3.6 or newer: python3, py"
    assert farm.note(one) == why
    assert farm.note(other) == ""  # they may not need one
    words = "worker a: cannot reach https://me:4000 ([Errno 113] No route to host); trying on"
    (farm.directory(other) / "herd.o1.1").write_text(f"{words}\n")
    farm.look(100.0)
    assert f"? (options localhost and port) And {why}. They say: {words}" in farm.note(other)
    end(farm)
    (far.bin / "python3").symlink_to(sys.executable)
    farm.watcher(one).context.relay = None
    begun(farm)
    farm.look()
    assert farm.note(one) == ""


def test_options_that_name_no_host(server: Make) -> None:
    """They end their own request, and are in no other's way."""
    farm = server()
    damaged = farm.request("1", "a b", link="auto")
    for _ in range(3):
        farm.look()
    assert "'a b' is not a name that ssh can connect to" in farm.errors(damaged)[0]
