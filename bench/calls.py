"""Calls of a node through the mesh, as an orchestrator makes them, and what became of each of them.

A call is pure and travels on lane `broad`, once: nobody but Envoy tries again here, so a call that Envoy
loses is seen to be lost.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from bench.stack import Stack
    from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceAsyncStub

SECONDS: Final = 30.0
"""After which a call counts as failed."""
DRAWS: Final = 10_000
PAUSE_SECONDS: Final = 0.02
"""Between the calls of a caller: a load, and not a flood in which every figure is the length of a queue."""
REQUEST: Final = pb.ExecuteRequest(input=b'{"value": "x"}')


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a call; times as `time.perf_counter` has them."""

    began: float
    ended: float
    draw: int
    failure: str = ""
    """Empty when it was answered."""
    revision: int = 0
    """Of the route that chose."""
    answered_by: str = ""
    tries: int = 0


class Caller:
    """Calls one node through the mesh."""

    def __init__(self, channel: grpc.aio.Channel, node: str) -> None:
        self._stub: NodeServiceAsyncStub = NodeServiceStub(channel)
        self._node = node

    async def call(self, *, pin: str = "") -> Reply:
        """One call with a draw of its own, or of the version `pin`."""
        draw = random.randrange(DRAWS)
        headers = (*envelope(self._node, draw), *((("x-reflux-version", pin),) if pin else ()))
        began = time.perf_counter()
        call = self._stub.Execute(REQUEST, metadata=headers, timeout=SECONDS)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            failure = f"{error.code().name}: {error.details()}"
            return Reply(began, time.perf_counter(), draw, failure)
        ended = time.perf_counter()
        told = dict(await call.initial_metadata() or ())
        return Reply(
            began,
            ended,
            draw,
            revision=int(told["x-reflux-revision"]) if "x-reflux-revision" in told else 0,
            answered_by=str(told["x-reflux-answered-by"]),
            tries=int(told["x-envoy-attempt-count"]),
        )

    async def reached(self, version: str) -> None:
        """Wait until `version` answers who asks for it.

        Raises:
            TimeoutError: it does not within a minute.
        """
        async with asyncio.timeout(2 * SECONDS):
            while (await self.call(pin=version)).failure:  # noqa: ASYNC110 - the mesh tells
                await asyncio.sleep(PAUSE_SECONDS)

    @asynccontextmanager
    async def calling(self, callers: int, seen: Callable[[Reply], None]) -> AsyncIterator[None]:
        """`callers` call again and again within the body, each with a pause; `seen` is told every reply."""
        stop = asyncio.Event()

        async def go_on() -> None:
            while not stop.is_set():
                seen(await self.call())
                await asyncio.sleep(PAUSE_SECONDS)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(go_on())
            try:
                yield
            finally:
                stop.set()


@asynccontextmanager
async def caller(stack: Stack, node: str) -> AsyncIterator[Caller]:
    """Over a connection of its own."""
    async with rpc.channel(stack.mesh) as channel:
        yield Caller(channel, node)


def failures(replies: Sequence[Reply]) -> list[str]:
    """Those of the calls that failed."""
    return [each.failure for each in replies if each.failure]


def envelope(node: str, draw: int = 0) -> tuple[tuple[str, str], ...]:
    """The headers of a pure call."""
    return (
        ("x-reflux-node", node),
        ("x-reflux-lane", "broad"),
        ("x-reflux-draw", str(draw)),
        ("x-reflux-run-id", "00000000-0000-7000-8000-000000000000"),
        ("x-reflux-step", "echo"),
        ("x-reflux-attempt", "1"),
        ("x-reflux-fencing-token", "1"),
        ("x-reflux-effect", "pure"),
        ("x-reflux-idempotency-key", "k"),
    )
