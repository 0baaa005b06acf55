"""Calls that carry several attempts (`ExecuteBatch`), as a node and the network deal with them.

All of them are pure. Each item has its own fate: it is done at once, later, fails, or is never answered;
results come one by one, in any order, some twice, some for items that nobody sent. The call as a whole is
refused by the mesh, lost, late, or breaks off in the middle.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc.aio import AioRpcError, Metadata

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.runtime import rpc

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from tests.simulation.outside import Outside
    from tests.simulation.world import ProcessLoop

_LABELS: Final = (("x-reflux-weight", "5000"), ("x-reflux-revision", "1"))
_STRANGER: Final = 99
"""Place of an item that nobody sent."""


class Stream:
    """The answers to one call, as a gRPC stream gives them."""

    def __init__(
        self, outside: Outside, loop: ProcessLoop, request: Any, version: str, timeout: float
    ) -> None:
        self._outside = outside
        self._loop = loop
        self._items = request.items
        self._version = version
        self._come: deque[Any] = deque()
        """Messages, an error, or None: the end."""
        self._news: asyncio.Future[None] | None = None
        self._over = False
        self._labels: Sequence[tuple[str, str]] = ()
        late = _error(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline exceeded")
        self._deadline = outside.world.after(max(timeout, 0.0), self._comes, late, loop=loop)
        self._send()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        while not self._come:
            self._news = self._loop.create_future()
            await self._news
        message = self._come.popleft()
        if message is not None and not isinstance(message, Exception):
            return message
        self.cancel()
        if message is None:
            raise StopAsyncIteration
        raise message

    async def initial_metadata(self) -> Sequence[tuple[str, str]]:
        """What the mesh says of the call."""
        return self._labels

    def done(self) -> bool:
        """Whether nothing more can come."""
        return self._over

    def cancel(self) -> None:
        """Nobody listens any more."""
        self._over = True
        self._deadline.cancel()

    def _comes(self, message: Any) -> None:
        if self._over:
            return
        self._come.append(message)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _send(self) -> None:
        """The request on its way, and all that comes back."""
        world, plan = self._outside.world, self._outside.plan
        chosen = [("x-reflux-chosen", self._version), *_LABELS]
        if plan.happens(0.05):
            world.note("fault", "batch refused by the mesh")
            labels = [*chosen, ("x-envoy-attempt-count", "1"), ("x-reflux-flags", "UH")]
            refusal = _error(grpc.StatusCode.UNAVAILABLE, "no healthy upstream", labels)
            world.after(0.002, self._comes, refusal, loop=self._loop)
            return
        if plan.happens(0.03):
            world.note("fault", "batch lost")
            return
        self._labels = [*chosen, ("x-reflux-answered-by", self._version), ("x-envoy-attempt-count", "1"),
                        ("x-envoy-upstream-service-time", "1")]  # fmt: skip
        at = world.rng.random() * 0.02 + (world.rng.uniform(0.5, 6) if plan.happens(0.04) else 0.0)
        results = []
        for place in world.rng.sample(range(len(self._items)), len(self._items)):
            if plan.happens(0.05):
                world.note("fault", "item lost", self._items[place].step)
                continue
            results.append(self._result(place))
        if results and plan.happens(0.05):
            world.note("fault", "result doubled")
            results.append(world.rng.choice(results))
        if plan.happens(0.03):
            results.append(node_pb.BatchResult(index=_STRANGER, output=b'{"by":"nobody"}'))
        breaks = world.rng.randrange(len(results) + 1) if plan.happens(0.05) else None
        for place, result in enumerate(results):
            if place == breaks:
                break
            if world.rng.random() < 0.5:
                at += world.rng.choice((0.001, 0.05, 0.3))
            message = node_pb.ExecuteBatchResponse(results=[result])
            world.after(at, self._comes, message, loop=self._loop)
        if breaks is not None:
            world.note("fault", "batch breaks off")
        end = None if breaks is None else _error(grpc.StatusCode.UNAVAILABLE, "reset")
        world.after(at + 0.001, self._comes, end, loop=self._loop)

    def _result(self, place: int) -> node_pb.BatchResult:
        outside, item = self._outside, self._items[place]
        if outside.world.rng.random() < 0.1:
            failure = rpc.make_status(
                grpc.StatusCode.NOT_FOUND, "it says no", reason="NODE_FAULT", metadata={}
            )
            return node_pb.BatchResult(index=place, failure=failure)
        output = outside.done(item.run_id, item.step, item.attempt, self._version)
        return node_pb.BatchResult(index=place, output=output)


def _error(code: grpc.StatusCode, message: str, initial: Sequence[tuple[str, Any]] = ()) -> AioRpcError:
    return AioRpcError(code, Metadata(*initial), Metadata(), details=message)
