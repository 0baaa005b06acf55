"""A version is killed with -9 while it is called: how soon do its calls have their answer from another one?

All calls of a node go to one version, which falls back to a second one. The first is killed, again and
again, each time after a new process of it has taken the calls over. From the kill until

- the first call is answered by the second version;
- the last call begins that meets the dead one first: then it is ejected, and costs nobody a try;

and the longest that any call took meanwhile. The bare limit is a client that needs no mesh: it is connected
to both processes, calls the first without a pause, and calls the second when the first hangs up.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from bench.calls import REQUEST, SECONDS, Reply, caller, envelope, failures
from bench.client import connected
from bench.processes import serving
from bench.report import BrokenPromise, Row, quantile
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.calls import Caller
    from bench.processes import Versions
    from bench.report import Plan
    from bench.stack import Stack
    from reflux.runtime.settings import Address

NODE: Final = "bench.guarded"
FIRST: Final = "1.0.0"
SECOND: Final = "2.0.0"
KILLS: Final = 10
CALLERS: Final = 8
BEFORE_SECONDS: Final = 1.0
AFTER_SECONDS: Final = 2.0
"""For which calls go on after a kill: until long after the version was ejected."""


@dataclass(frozen=True, slots=True)
class Failover:
    """What followed from one kill, in milliseconds."""

    limit: float
    answered: float
    ejected: float
    longest: float
    calls: int
    failed: tuple[str, ...]


async def measure(stack: Stack, plan: Plan) -> list[Row]:
    """Measure and print.

    Raises:
        BrokenPromise: a call failed.
    """
    kills = []
    async with (
        connected(stack) as client,
        caller(stack, NODE) as calls,
        serving(stack, f"{NODE}@{SECOND}") as second,
    ):
        for number in range(plan.of(KILLS)):
            async with serving(stack, f"{NODE}@{FIRST}") as first:
                await calls.reached(FIRST)
                if not number:
                    await calls.reached(SECOND)
                    to = {"version": FIRST, "weight": 10_000, "fallback": [SECOND]}
                    await client.route(NODE, to, {"version": SECOND, "weight": 0})
                kills.append(await _kill(calls, first, second))
    _show(kills)
    if lost := [failure for each in kills for failure in each.failed]:
        raise BrokenPromise(f"failover: {len(lost)} calls failed; {lost[:3]}")
    return [_row(kills)]


async def _kill(calls: Caller, first: Versions, second: Versions) -> Failover:
    replies: list[Reply] = []
    async with calls.calling(CALLERS, replies.append):
        await asyncio.sleep(BEFORE_SECONDS)
        limit = asyncio.create_task(_without_a_mesh(first.addresses[0], second.addresses[0]))
        await asyncio.sleep(BEFORE_SECONDS)
        killed = time.perf_counter()
        await first.kill()
        answered = await limit
        await asyncio.sleep(AFTER_SECONDS)
    after = [each for each in replies if each.ended >= killed]
    handed_on = [each.began for each in after if each.tries > 1]
    by_second = [each.ended for each in after if each.answered_by == SECOND]
    if not by_second:
        raise BrokenPromise(f"failover: nobody was answered by {SECOND} within {AFTER_SECONDS:g} s")
    return Failover(
        limit=(answered - killed) * 1000,
        answered=(min(by_second) - killed) * 1000,
        ejected=max(0.0, max(handed_on, default=killed) - killed) * 1000,
        longest=max(each.ended - each.began for each in after) * 1000,
        calls=len(after),
        failed=tuple(failures(replies)),
    )


async def _without_a_mesh(first: Address, second: Address) -> float:
    """Call the first until it hangs up, then the second; when that answers."""
    async with rpc.channel(first) as one, rpc.channel(second) as other:
        headers = envelope(NODE)
        stub, spare = NodeServiceStub(one), NodeServiceStub(other)
        await spare.Execute(REQUEST, metadata=headers, timeout=SECONDS)
        while True:
            try:
                await stub.Execute(REQUEST, metadata=headers, timeout=SECONDS)
            except grpc.aio.AioRpcError:
                await spare.Execute(REQUEST, metadata=headers, timeout=SECONDS)
                return time.perf_counter()


def _show(kills: Sequence[Failover]) -> None:
    calls, failed = sum(each.calls for each in kills), sum(len(each.failed) for each in kills)
    print(f"\nFailover: {len(kills)} kills -9 of a version, {CALLERS} callers, {calls:,} calls after kills")
    print(f"  {'ms from the kill':<44}{'p50':>9}{'most':>9}")
    for text, values in (
        ("bare limit: a client that holds both", [each.limit for each in kills]),
        ("first answer of the other version", [each.answered for each in kills]),
        ("last call begins that meets the dead one", [each.ejected for each in kills]),
        ("longest call meanwhile (from its begin)", [each.longest for each in kills]),
    ):
        print(f"  {text:<44}{quantile(values, 0.5):>9.1f}{max(values):>9.1f}")
    print(f"  failed calls: {failed} (promise: none)")


def _row(kills: Sequence[Failover]) -> Row:
    limits, answered = [each.limit for each in kills], [each.answered for each in kills]
    limit, ours = quantile(limits, 0.5), quantile(answered, 0.5)
    return Row(
        f"failover after kill -9 of a version, first answer, p50, most of {len(kills)}, ms",
        f"{limit:.0f}, {max(limits):.0f}",
        f"{ours:.0f}, {max(answered):.0f}",
        f"{ours / limit:.1f}; 0 calls failed",
        "none failed",
    )
