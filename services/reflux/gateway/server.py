"""uvicorn as a guest in the process: it neither handles signals nor configures logs, and it drains in bound.

Connections are kept open longer than the edge keeps them (an hour), so that it is always the edge that closes
an idle one and no request meets a closing connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from reflux.runtime import logs, tls
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from reflux.runtime.settings import Address
    from reflux.runtime.tls import Identity

DRAIN_SECONDS: Final = 5
_KEEP_ALIVE_SECONDS: Final = 3_700

log = logs.get_logger("gateway")


async def serve_http(
    app: ASGIApp,
    address: Address,
    *,
    on_ready: Callable[[int], None],
    on_stop: Callable[[], None],
    identity: Identity | None = None,
) -> None:
    """Serve `app` until cancelled, then finish what is in flight within `DRAIN_SECONDS`.

    Args:
        app: any ASGI application without lifespan.
        address: where to listen; port 0 takes a free one.
        on_ready: called once with the port when requests are accepted.
        on_stop: called when draining begins; ends responses that would not end by themselves.
        identity: of this process; with it only the edge is let in. None: plaintext.

    Raises:
        OSError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        loop="none",
        http="h11" if identity is None else EdgeOnly,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        **({} if identity is None else _secured(identity)),
    )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.create_server(address, family=family, backlog=config.backlog)
    server = _Server(config, lambda: on_ready(listener.getsockname()[1]))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    renewal = asyncio.ensure_future(_renew(config, identity))
    try:
        await asyncio.shield(serving)
    finally:
        renewal.cancel()
        server.should_exit = True
        on_stop()
        await serving


class EdgeOnly(H11Protocol):
    """HTTP of who shows a certificate of the edge; the chain was checked by the handshake. A health check of
    this very process shows the gateway's own.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close the connection of anybody else before a byte is read."""
        names = (transport.get_extra_info("peercert") or {}).get("subjectAltName", ())
        shown = [value.encode() for kind, value in names if kind == "DNS"]
        super().connection_made(transport)
        if not tls.roles(shown) & {tls.Role.EDGE, tls.Role.GATEWAY}:
            log.warning("caller_refused", names=shown)
            transport.abort()


def _secured(identity: Identity) -> dict[str, Any]:
    return {
        "ssl_certfile": identity.folder / tls.IDENTITY,
        "ssl_ca_certs": str(identity.folder / tls.AUTHORITY),
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }


async def _renew(config: uvicorn.Config, identity: Identity | None) -> None:
    """Take newer files of the identity for the handshakes that follow."""
    if identity is None:
        return
    stamp = identity.stamp
    for _ in forever():
        await asyncio.sleep(tls.LOOK_SECONDS)
        try:
            if (found := identity.stamp) != stamp and config.ssl is not None:
                identity.read()
                identity.renew(config.ssl)
                stamp = found
                log.info("identity_replaced", folder=str(identity.folder))
        except (OSError, tls.TlsError) as error:
            log.warning("identity_unreadable", error=str(error))


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
