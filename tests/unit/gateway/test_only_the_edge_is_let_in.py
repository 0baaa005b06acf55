"""With an identity the gateway serves the edge, and its own health check, over TLS, and nobody else."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from reflux.cli import authority
from reflux.gateway.server import serve_http
from reflux.runtime import tls
from reflux.runtime.settings import Address
from reflux.runtime.tls import Identity, Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    """All identities."""
    authority.make(tmp_path, Role, days=9, renew_days=0, now=datetime.now(UTC))
    return tmp_path


@pytest.fixture
async def port(certs: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A gateway with one page."""
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.05)
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
    serving = asyncio.ensure_future(
        serve_http(
            app,
            Address("127.0.0.1", 0),
            on_ready=bound.set_result,
            on_stop=lambda: None,
            identity=Identity(certs / Role.GATEWAY),
        )
    )
    yield await asyncio.wait_for(bound, 20)
    serving.cancel()
    await asyncio.wait((serving,), timeout=20)


async def get(port: int, context: ssl.SSLContext | None) -> tuple[bytes, bytes | None]:
    """The answer, and the certificate that was shown; nothing where the connection is refused."""
    name = Role.GATEWAY.name_in_certificates if context else None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        writer.write(b"GET / HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 20)
        shown = writer.get_extra_info("ssl_object")
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return b"", None
    return answer, shown and shown.getpeercert(binary_form=True)


def context(certs: Path, role: Role | None) -> ssl.SSLContext:
    """A client that believes the authority and shows the certificate of a role, or none."""
    made = ssl.create_default_context(cafile=str(certs / "authority.pem"))
    if role is not None:
        made.load_cert_chain(certs / role / "identity.pem")
    return made


async def test_only_the_right_roles_get_an_answer(port: int, certs: Path) -> None:
    """Every other role, no certificate and plaintext get none."""
    for role in Role:
        answer, _ = await get(port, context(certs, role))
        assert answer.endswith(b"here") == (role in {Role.EDGE, Role.GATEWAY}), role
    assert (await get(port, context(certs, None)))[0] == b""
    assert (await get(port, None))[0] == b""


async def test_one_that_has_expired_is_refused(port: int, certs: Path) -> None:
    """By its dates alone: the authority and the role are right."""
    then = datetime.now(UTC) - timedelta(days=5)
    authority.make(certs, [Role.EDGE], days=4, renew_days=0, now=then, anew=True)
    assert (await get(port, context(certs, Role.EDGE)))[0] == b""


async def test_a_new_certificate_is_shown_without_a_restart(port: int, certs: Path) -> None:
    """By the connections that are made after it was written."""
    _, before = await get(port, context(certs, Role.EDGE))
    authority.make(certs, Role, days=9, renew_days=0, now=datetime.now(UTC), anew=True)
    async with asyncio.timeout(20):
        while (answered := await get(port, context(certs, Role.EDGE)))[1] == before:
            await asyncio.sleep(0.05)
    assert answered[0].endswith(b"here")
