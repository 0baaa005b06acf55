"""What waits for a version that is down leaves in a ramp when it comes back, and every run ends.

Orchestrator, control plane, registry, Envoy and PostgreSQL are real; what arrives is counted at the node.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import grpc

from reflux.orchestrator.ramp import PROBE
from reflux.orchestrator.retry_budget import AGAIN, BURST
from tests.mesh.support.node import Node
from tests.mesh.support.orchestrator import orchestrator_on
from tests.mesh.support.platform import NODE, platform_on

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 150
EJECTED = {"consecutive": 5, "interval": "0.2s", "base_time": "3s"}


class _Heard:
    """A node that fails until it is well, and the moments at which attempts came that had waited for that.

    First attempts wait for nothing: a run that is started late may meet a node that is well again.
    """

    def __init__(self) -> None:
        self.well = False
        self.times: list[float] = []

    async def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        attempt = dict(context.invocation_metadata() or ()).get("x-reflux-attempt")
        if self.well and attempt != "1":
            self.times.append(asyncio.get_running_loop().time())
        elif not self.well:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "ill")


def _per_100_ms(times: list[float]) -> list[int]:
    """How many in each tenth of a second, from the first one."""
    slots = Counter(int((time - times[0]) * 10) for time in times)
    return [slots[slot] for slot in range(max(slots) + 1)]


def _ramp(seconds: float) -> float:
    """How many may have come so long after the first.

    What had failed and what had never left have a ramp each, and a burst saved up. A timer may be late by a
    quarter of a second, and counts with the rate of then.
    """
    doubled = (math.exp2(seconds) - 1) / math.log(2)
    return 2 * BURST + 1.25 * (AGAIN + PROBE) * doubled


async def test_what_waited_for_an_ejected_version_comes_in_a_ramp(
    database_dsn: str, tmp_path: Path, valkey_url: str
) -> None:
    """Some runs met failures, the others an ejection. When it is over no more come than the ramp allows."""
    async with (
        platform_on(database_dsn, tmp_path, lease_seconds=120) as platform,
        Node("1").serving() as node,
        orchestrator_on(platform, valkey_url) as client,
    ):
        await platform.register(node, pure=True)
        await platform.answered_by("1")
        heard = node.behaviour = _Heard()
        await platform.update({"version": "1", "weight": 10_000, "ejection": EJECTED})
        retry = {"attempts": 5, "delay": "200ms", "on": ["UNAVAILABLE"]}
        await client.save("waiting", {"id": "one", "node": NODE, "retry": retry, "with": {}})
        runs = [asyncio.create_task(client.start("waiting", wait="60s", seconds=70)) for _ in range(RUNS)]
        async with asyncio.timeout(30):
            while not sum((await platform.proxy.stats("outlier_detection.ejections_active$")).values()):
                await asyncio.sleep(0.05)
        heard.well = True
        assert {run["state"] for run in await asyncio.gather(*runs)} == {"SUCCEEDED"}

    assert len(heard.times) > RUNS / 4, "hardly anybody met the ejection"
    came = _per_100_ms(heard.times)
    for slot, so_far in enumerate(accumulate(came), start=1):
        assert so_far <= _ramp(slot / 10), came
