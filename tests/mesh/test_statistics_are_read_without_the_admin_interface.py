"""The bootstraps' listener `stats`: what a Prometheus elsewhere may read of a proxy, and nothing more."""

from __future__ import annotations

import asyncio
import http.client
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.mesh.support.proxy import envoy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.mesh.support.proxy import Proxy

DANGEROUS = ("/quitquitquit", "/runtime_modify?a=b", "/drain_listeners", "/logging", "/healthcheck/fail")
REVEALING = ("/config_dump", "/certs", "/server_info", "/", "/help", "/memory", "/runtime")
AROUND = (
    "/stats/../quitquitquit",
    "//quitquitquit",
    "/stats%2f..%2fquitquitquit",
    "/stats/prometheus/",
    "/STATS",
)


@pytest.fixture(params=["edge", "mesh"])
async def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Each kind of proxy, alone: no control plane is needed for this."""
    async with envoy(tmp_path, cluster=request.param, stats=True) as running:
        yield running


async def _ask(port: int, method: str, path: str) -> tuple[int, bytes]:
    def ask() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, path, body=b"" if method == "POST" else None)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def test_prometheus_reads_it(proxy: Proxy) -> None:
    """The same as on the admin interface, in a form that its parser takes."""
    status, text = await _ask(proxy.statistics, "GET", "/stats/prometheus")
    assert status == 200
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert "envoy_server_live" in names
    assert (await _ask(proxy.statistics, "GET", "/ready"))[0] == 200
    status, text = await _ask(proxy.statistics, "GET", "/stats?filter=server.live&format=json")
    assert (status, b"server.live" in text) == (200, True)
    assert b"controlplane::" in (await _ask(proxy.statistics, "GET", "/clusters"))[1]


async def test_it_changes_nothing_and_shows_nothing_else(proxy: Proxy) -> None:
    """Neither by another method, nor by another spelling of a path; afterwards the proxy lives."""
    for path in (*DANGEROUS, *REVEALING, *AROUND):
        for method in ("GET", "POST", "PUT"):
            status, _ = await _ask(proxy.statistics, method, path)
            assert status in (400, 404), (method, path, status)
    for path in ("/stats", "/stats/prometheus", "/clusters", "/ready"):
        assert (await _ask(proxy.statistics, "POST", path))[0] == 404
    assert (await _ask(proxy.statistics, "GET", "/ready"))[0] == 200
    assert (await _ask(proxy.admin, "GET", "/ready"))[0] == 200
