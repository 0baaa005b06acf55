"""Envoy's figures become ours whatever happens to the proxy in between."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from reflux.controlplane import metrics
from reflux.controlplane.ejections import Ejected, ProxyWatch, read
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def stats(**figures: int) -> bytes:
    """An answer of Envoy about one version of `node`."""
    found = [
        {"name": f"cluster.some.node@1.0.0.outlier_detection.ejections_{name}", "value": value}
        for name, value in figures.items()
    ]
    return json.dumps({"stats": found}).encode()


class Proxy:
    """Answers what a test says, and nothing when it is away."""

    def __init__(self) -> None:
        self.body = stats(active=0, enforced_total=0)
        self.status = "200 OK"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def watched(proxy: Proxy) -> AsyncIterator[ProxyWatch]:
    server = await asyncio.start_server(proxy.answer, "127.0.0.1", 0)
    address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    watch = ProxyWatch(address)
    async with server:
        with watch.shown():
            yield watch


def active(watch: ProxyWatch) -> float | None:
    return metrics.EJECTED.series().get((str(watch._address), "some.node", "1.0.0"))


def total(watch: ProxyWatch) -> float:
    return metrics.EJECTIONS.at(str(watch._address), "some.node", "1.0.0").value


def test_names_are_taken_apart() -> None:
    """Nodes have dots in their names, versions too; chains and everything else are left out."""
    answer = {
        "stats": [
            {"name": "cluster.a.b.c@1.2.3-rc.1.outlier_detection.ejections_active", "value": 2},
            {"name": "cluster.a.b.c@1.2.3-rc.1.outlier_detection.ejections_enforced_total", "value": 7},
            {"name": "cluster.a.b.c~broad~12de.outlier_detection.ejections_active", "value": 1},
            {"name": "cluster.controlplane.outlier_detection.ejections_active", "value": 1},
            {"histograms": {}},
        ]
    }
    assert read(json.dumps(answer).encode()) == {("a.b.c", "1.2.3-rc.1"): Ejected(2, 7)}


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"stats": 1}', b'{"stats": [{"name": "x", "value": "y"}]}']
)
def test_what_envoy_would_not_say_is_refused(text: bytes) -> None:
    """As ValueError, whatever it is."""
    with pytest.raises(ValueError):
        read(text)


async def test_a_proxy_that_begins_again_is_counted_on() -> None:
    """Its counter falls to 0 with a restart; ours goes on from where it was."""
    proxy = Proxy()
    async with watched(proxy) as watch:
        for figure, expected in ((3, 3), (3, 3), (5, 5), (0, 5), (1, 6)):
            proxy.body = stats(active=1, enforced_total=figure)
            await watch.look()
            assert total(watch) == expected


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
async def test_what_cannot_be_asked_has_no_figures(status: str) -> None:
    """Neither the last ones nor 0, which would silence an alert. It comes back by itself."""
    proxy = Proxy()
    async with watched(proxy) as watch:
        proxy.body = stats(active=1, enforced_total=1)
        await watch.look()
        assert active(watch) == 1
        good, proxy.body, proxy.status = proxy.body, b"nonsense", status
        await watch.look()
        assert active(watch) is None
        assert metrics.STATS_REACHABLE.series()[(str(watch._address),)] == 0
        proxy.body, proxy.status = good, "200 OK"
        await watch.look()
        assert (active(watch), total(watch)) == (1, 1)
        assert metrics.STATS_REACHABLE.series()[(str(watch._address),)] == 1
    assert active(watch) is None
