"""What a registry shows of endpoints: how many live, how many came, how many fell silent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from reflux.registry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_endpoints_live_until_their_lease_ends(running: Callable[..., Any]) -> None:
    """A version without endpoints is there with 0: that is what an alert waits for."""
    version = ("counted", "1.0.0")
    registered = metrics.ENDPOINTS_REGISTERED.at(*version).value
    expired = metrics.ENDPOINTS_EXPIRED.at(*version).value
    async with running(lease=1.0) as registry:
        await registry.register("counted")
        await registry.shows("127.0.0.1:9000")
        assert metrics.ENDPOINTS_LIVE.series()[version] == 1
        await registry.shows()
        async with asyncio.timeout(20):
            while metrics.ENDPOINTS_LIVE.series()[version] != 0:
                await asyncio.sleep(0.02)
        assert metrics.ENDPOINTS_REGISTERED.at(*version).value == registered + 1
        assert metrics.ENDPOINTS_EXPIRED.at(*version).value == expired + 1
    assert version not in metrics.ENDPOINTS_LIVE.series()
