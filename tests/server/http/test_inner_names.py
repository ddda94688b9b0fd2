"""The names of uvicorn and asyncio that no documentation promises, and that the server leans on.

A new version that takes one of them away fails here, and says which. Then look into server/http, and at the bounds in
pyproject.toml.
"""

import asyncio
import inspect
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http import h11_impl, httptools_impl
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

PROTOCOLS = [h11_impl.H11Protocol, httptools_impl.HttpToolsProtocol]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


def made(protocol: Any) -> Any:
    """Return a connection as ours are made."""

    async def make() -> Any:
        config = uvicorn.Config(app, interface="asgi3", log_config=None, lifespan="off", ws="none")
        return protocol(config, ServerState(), {"connection": 1}, asyncio.get_running_loop())

    return asyncio.run(make())


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", ["startup", "shutdown"])
def test_a_method_of_uvicorns_server_that_is_overridden(name: str) -> None:
    method = getattr(uvicorn.Server, name, None)
    assert inspect.iscoroutinefunction(method), f"uvicorn {uvicorn.__version__} has no coroutine Server.{name} any more"
    assert parameters(method) == ["sockets"], f"uvicorn {uvicorn.__version__} calls Server.{name} with something else"


def test_uvicorns_server() -> None:
    """What is done in the overridden methods, and what runs between them."""
    version = uvicorn.__version__
    signals = getattr(uvicorn.Server, "capture_signals", None)
    assert signals is not None, f"uvicorn {version} has no Server.capture_signals any more: who catches SIGTERM?"
    assert hasattr(signals, "__wrapped__"), (
        f"in uvicorn {version} Server.capture_signals is no context manager any more"
    )
    assert parameters(signals) == [], f"uvicorn {version} calls Server.capture_signals with something"
    serve = "".join(inspect.getsource(getattr(uvicorn.Server, name)) for name in ("serve", "_serve"))
    order = [serve.find(f"self.{name}(") for name in ("capture_signals", "startup", "main_loop", "shutdown")]
    assert order == sorted(order), f"uvicorn {version} does not run startup, main_loop and shutdown in this order"
    assert order[0] >= 0, f"uvicorn {version} does not call the methods that are overridden"
    server = uvicorn.Server(uvicorn.Config(app))
    for name in ("config", "server_state", "started", "should_exit"):
        assert hasattr(server, name), f"uvicorn {version} has no Server.{name} any more"
    shutdown = inspect.getsource(uvicorn.Server.shutdown)
    for name in ("self.servers", "server_state.connections", "connection.shutdown()", "timeout_graceful_shutdown"):
        assert name in shutdown, f"uvicorn {version} does not use {name} in Server.shutdown any more"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_uvicorns_connections(protocol: Any) -> None:
    version = uvicorn.__version__
    expected = ["config", "server_state", "app_state", "_loop"]
    assert parameters(protocol) == expected, f"in uvicorn {version} {protocol.__name__} is made of something else"
    for name in (
        *(
            "connection_made",
            "connection_lost",
            "data_received",
            "pause_writing",
            "resume_writing",
        ),  # asyncio calls them
        "shutdown",  # Server.shutdown calls it
    ):
        assert callable(getattr(protocol, name, None)), f"uvicorn {version} has no {protocol.__name__}.{name} any more"
    one = made(protocol)
    for name in ("loop", "transport", "client"):
        assert hasattr(one, name), f"uvicorn {version} has no {protocol.__name__}.{name} any more"
    source = inspect.getsource(inspect.getmodule(protocol))  # type: ignore[arg-type]
    assert '"state": self.app_state' in source, f"uvicorn {version} does not give our state to the app any more"


def test_the_connections_are_one_of_these() -> None:
    assert AutoHTTPProtocol in PROTOCOLS, f"uvicorn {uvicorn.__version__} has another parser than httptools and h11"


def test_asyncios_tls() -> None:
    """There is no public way to its buffer's size."""
    names = parameters(SSLProtocol)
    assert names[:4] == ["loop", "app_protocol", "sslcontext", "waiter"], (
        "asyncio's SSLProtocol is made of something else"
    )
    assert {"server_side", "ssl_handshake_timeout", "ssl_shutdown_timeout"} <= set(names)
    assert SSLProtocol.max_size == 256 << 10, "asyncio's SSLProtocol has no max_size any more, or another"
    assert "self._ssl_buffer = bytearray(self.max_size)" in inspect.getsource(SSLProtocol.__init__), (
        "SSLProtocol.max_size is not its buffer's any more"
    )
    updated = inspect.getsource(SSLProtocol.buffer_updated)
    assert "self._incoming.write(self._ssl_buffer_view[:nbytes])" in updated, "what is read stays in the buffer"
