"""Head nodes, and what is decided in the service's thread."""

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from sheepdog.config import Config
from sheepdog.config.options import Options
from sheepdog.errors import RequestNotFound, StorageBusy
from sheepdog.server.scheduling.nodes import FIRST, Context, HeadNode, Submitter, head_key
from sheepdog.storage import Storage
from tests.server.scheduling.fakes import Inline

CONFIG = Config(host="fear", scheduler="gridengine", poll_interval=60.0)


@pytest.fixture
def writer(storage: Storage) -> Submitter:
    return Inline(storage)


def test_two_requests_on_one_host_share_its_head_node(writer: Submitter) -> None:
    context = Context(writer, head_key(Options(CONFIG)))
    node = context.node(Options(CONFIG), 100.0)
    other = Options(replace(CONFIG, workers=7, queue="long"), maker={"pid": 1})
    assert context.mine(other)
    assert context.node(other, 200.0) is node
    assert (node.host.name, node.scheduler.name) == ("fear", "gridengine")


@pytest.mark.parametrize(
    "other",
    [{"host": "hive"}, {"ssh_user": "anna"}, {"ssh_port": 2222}, {"ssh_keyfile": "key"}, {"scheduler": "slurm"}],
)
def test_another_way_there_is_another_head_node(writer: Submitter, other: dict[str, Any]) -> None:
    context = Context(writer, head_key(Options(CONFIG)))
    options = Options(replace(CONFIG, **other))
    assert head_key(options) != head_key(Options(CONFIG))
    assert not context.mine(options)


def test_it_is_asked_soon_after_the_submission() -> None:
    node = HeadNode(Options(CONFIG), 1000.0)
    assert node.asked + node.scheduler.interval == 1000.0 + FIRST


def test_where_the_server_is(writer: Submitter, storage: Storage) -> None:
    """It is looked up until it is known, and then no more."""
    context = Context(writer, ())
    context.locate()
    assert (context.port, context.certificate) == ("", "")
    storage.set_settings(port=4000, certificate="CERTIFICATE")
    context.locate()
    assert (context.port, context.certificate) == (4000, "CERTIFICATE")
    storage.set_settings(port=5000)
    context.locate()
    assert context.port == 4000


def test_what_is_decided_comes_back(writer: Submitter) -> None:
    context = Context(writer, ())
    assert context.decide(lambda service, a, b: (bool(service.live), a + b), 1, 2) == (False, 3)
    with pytest.raises(RequestNotFound):
        context.decide(lambda service: service.storage.get_request(7))


class Asleep:
    """A Submitter that decides nothing."""

    def submit(self, decide: Any) -> Future[Any]:
        return Future()


def test_nothing_is_waited_for_without_end() -> None:
    context = Context(Asleep(), ())
    context.patience = 0.05
    with pytest.raises(StorageBusy, match="nothing has been decided"):
        context.decide(lambda _: None)
