"""Pure calls that come in one message, each done by itself.

Every item has a place of its own among the calls of the version, its own deadline and its own outcome, which
is sent as soon as it is known; what is known at the same moment travels in one message. So a slow item holds
nobody up, and a fast one costs no message of its own.

Who learns of a failure. Envoy sees one call, and acts on it only before the first answer (after it, it
neither retries nor counts). So the outcomes that are known first decide:

    all of them NodeFaults     the call fails trailers-only with the first of them: the mesh tries the whole
                               batch elsewhere, and counts it once. What else was under way is cancelled
    any other                  they are sent, and each later failure is told in its result: whoever sent the
                               batch asks again for those items alone

A batch is admitted when one place is free; items that find none begin when one becomes free.

Items are taken one after the other by *runners*. A runner that is about to take an item makes sure that
another one is ready to go on, should its item have to wait for something. A function that never waits thus
costs two tasks for a whole batch; one that does, a task for each of its calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.sdk import metrics
from reflux.sdk.envelope import Envelope
from reflux.sdk.faults import Fault, NodeFault, TargetFault
from reflux.sdk.outcome import Done, Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.sdk.servicer import NodeServicer

MAX_ITEMS: Final = 256
MAX_BYTES: Final = 1 << 20
"""Of the inputs together: what the mesh can keep to try the call again."""
MESSAGE_BYTES: Final = 1 << 20
"""Outputs of about so much travel in one message; a single one may be as large."""


class Batch:
    """One call of `ExecuteBatch`; `serve` it once."""

    def __init__(self, servicer: NodeServicer, items: Sequence[pb.BatchItem], context: Any) -> None:
        self._servicer = servicer
        self._items = items
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._arrival = self._loop.time()
        self._remaining: float | None = context.time_remaining()
        self._next = 0
        self._unanswered = len(items)
        self._known: deque[tuple[int, Done | Failed]] = deque()
        self._something = asyncio.Event()
        self._runners: set[asyncio.Task[None]] = set()
        self._one_is_ready = False
        """A runner was made that has not begun."""

    async def serve(self) -> Failed | None:
        """Answer every item; or how the call as a whole must fail, when nothing has been sent."""
        try:
            self._admit()
        except Fault as fault:
            return self._servicer.failed(fault)
        if not self._items:
            return None
        async with asyncio.TaskGroup() as group:
            self._ready_one(group)
            try:
                return await self._answer()
            finally:
                for runner in self._runners:
                    runner.cancel()

    def _admit(self) -> None:
        """Raises Fault."""
        name = self._servicer.version.name
        if not self._servicer.version.batchable:
            message = f"{name} takes no batches"
            raise TargetFault(grpc.StatusCode.UNIMPLEMENTED, message, reason=Reason.ARGUMENT_INVALID)
        size = sum(len(item.input) for item in self._items)
        if len(self._items) > MAX_ITEMS or size > MAX_BYTES:
            message = f"{len(self._items)} items of {size} bytes; at most {MAX_ITEMS} of {MAX_BYTES}"
            raise TargetFault(grpc.StatusCode.INVALID_ARGUMENT, message, reason=Reason.ARGUMENT_INVALID)
        self._servicer.admit()

    async def _answer(self) -> Failed | None:
        sent = False
        while self._unanswered:
            await self._something.wait()
            self._something.clear()
            if not sent and (ill := self._ill()) is not None:
                return ill
            while self._known:
                await self._context.write(self._message())
                sent = True
        return None

    def _ill(self) -> Failed | None:
        """The first of the outcomes known, if all of them are for the mesh to act on."""
        outcomes = [outcome for _, outcome in self._known]
        if all(isinstance(each, Failed) and isinstance(each.fault, NodeFault) for each in outcomes):
            first = outcomes[0]
            return first if isinstance(first, Failed) else None
        return None

    def _message(self) -> pb.ExecuteBatchResponse:
        """Outcomes known and not sent, as many as fit."""
        message = pb.ExecuteBatchResponse()
        size = 0
        while self._known and size < MESSAGE_BYTES:
            index, outcome = self._known.popleft()
            self._unanswered -= 1
            result = message.results.add(index=index)
            if isinstance(outcome, Done):
                result.output = outcome.output
                size += len(outcome.output)
                if outcome.cost_nanos is not None:
                    result.cost_nanos = outcome.cost_nanos
            else:
                result.failure.CopyFrom(self._servicer.status(outcome))
                size += result.failure.ByteSize()
        return message

    def _ready_one(self, group: asyncio.TaskGroup) -> None:
        self._one_is_ready = True
        runner = group.create_task(self._run(group))
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)

    async def _run(self, group: asyncio.TaskGroup) -> None:
        """A runner: takes items until none is left."""
        self._one_is_ready = False
        while self._next < len(self._items):
            with ExitStack() as place:
                await self._servicer.take_place(place)
                if self._next == len(self._items):
                    return  # another runner took the last one while this one waited
                index = self._next
                self._next += 1
                if not self._one_is_ready and self._next < len(self._items):
                    self._ready_one(group)
                outcome = await self._outcome(self._items[index], place)
            self._known.append((index, outcome))
            self._something.set()

    async def _outcome(self, item: pb.BatchItem, place: ExitStack) -> Done | Failed:
        began = perf_counter()
        code = grpc.StatusCode.CANCELLED.name
        try:
            envelope = Envelope(
                run_id=item.run_id,
                step=item.step,
                attempt=item.attempt or 1,
                effect=EffectClass.PURE,
                idempotency_key=item.idempotency_key,
            )
            outcome = await self._servicer.work(item.input, envelope, self._left(item), place)
            code = "OK" if isinstance(outcome, Done) else outcome.fault.code.name
        finally:
            version = self._servicer.version
            metrics.CALL_DURATION.at(version.node, version.version, code).record(perf_counter() - began)
        return outcome

    def _left(self, item: pb.BatchItem) -> float | None:
        """Seconds that the item has from now; None for as long as its version says."""
        limits = [] if self._remaining is None else [self._remaining]
        if item.HasField("timeout"):
            limits.append(item.timeout.ToTimedelta().total_seconds())
        passed = self._loop.time() - self._arrival
        return max(0.0, min(limits) - passed) if limits else None
