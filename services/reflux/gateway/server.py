"""uvicorn as a guest in the process: it neither handles signals nor configures logs, and it drains in bound.

Connections are kept open longer than the edge keeps them (an hour), so that it is always the edge that closes
an idle one and no request meets a closing connection.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from reflux.runtime.settings import Address

DRAIN_SECONDS: Final = 5
_KEEP_ALIVE_SECONDS: Final = 3_700


async def serve_http(
    app: ASGIApp, address: Address, *, on_ready: Callable[[int], None], on_stop: Callable[[], None]
) -> None:
    """Serve `app` until cancelled, then finish what is in flight within `DRAIN_SECONDS`.

    Args:
        app: any ASGI application without lifespan.
        address: where to listen; port 0 takes a free one.
        on_ready: called once with the port when requests are accepted.
        on_stop: called when draining begins; ends responses that would not end by themselves.

    Raises:
        OSError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        loop="none",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.create_server(address, family=family, backlog=config.backlog)
    server = _Server(config, lambda: on_ready(listener.getsockname()[1]))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        on_stop()
        await serving


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to `reflux.runtime.process`."""
        yield
