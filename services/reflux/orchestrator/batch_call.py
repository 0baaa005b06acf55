"""Several attempts on the wire in one call: one envelope out, an outcome for each of them back.

The mesh sees one call, labels it once, and acts on it only until its first answer. So what fails here is told
apart by whose failure it surely is:

    the item's own     a TargetFault; a deadline that is over. It counts, as if the attempt had been alone
    not surely its own a NodeFault in a result; no answer, because the call failed or broke off. The attempt
                       is not counted, and goes again at once and alone: there the mesh does what it does for
                       every call, and a failure is the attempt's own

All of it is pure, so whatever was done by an attempt that goes again did no harm.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.core.attempt import AttemptResult
from reflux.core.event import Failure, Outcome
from reflux.core.reasons import Reason
from reflux.orchestrator import metrics
from reflux.orchestrator.caller import (
    RETRYABLE,
    SINGLE_TRY,
    TARGET,
    Order,
    answered,
    assignment_of,
    cost_of,
    labels_of,
)
from reflux.runtime import rpc
from reflux.runtime.clock import Clock

EXECUTE_BATCH: Final = "/reflux.api.node.v1.NodeService/ExecuteBatch"

MAX_BYTES: Final = 1 << 20
"""Of the inputs of one call: the mesh keeps it to try it again."""

LATE_SECONDS: Final = 0.25
"""Envoy gives a call up 0.2 s before its deadline: what fails in its last moments was out of time."""

Told = Callable[[Sequence[tuple[int, AttemptResult]]], bool]
"""Takes outcomes with the places of their orders, and says whether anybody waits for more."""


class BatchCaller:
    """Calls nodes with several attempts at once, through the mesh listener of Envoy."""

    def __init__(self, channel: grpc.aio.Channel, clock: Clock) -> None:
        self._execute = channel.unary_stream(
            EXECUTE_BATCH,
            request_serializer=pb.ExecuteBatchRequest.SerializeToString,
            response_deserializer=pb.ExecuteBatchResponse.FromString,
        )
        self._clock = clock

    async def call(self, orders: Sequence[Order], told: Told) -> None:
        """Sends `orders`, which are of one group, and tells every outcome once, as it comes."""
        head, start = orders[0], self._clock.now()
        seconds = [order.seconds(start) for order in orders]
        batch = _Batch(orders, secrets.token_hex(8), start, max(seconds))
        items = [_item(order, left, batch.seconds) for order, left in zip(orders, seconds, strict=True)]
        metrics.BATCH_SIZE.at(head.node).record(len(orders))
        stream = self._execute(
            pb.ExecuteBatchRequest(items=items),
            metadata=_envelope(head, batch.id),
            timeout=batch.seconds,
        )
        try:
            async for message in stream:
                if not batch.labelled:
                    batch.label(labels_of(await stream.initial_metadata()))
                if not told(batch.outcomes(message, self._clock.now())):
                    return
            told(batch.rest(None, self._clock.now()))
        except grpc.aio.AioRpcError as error:
            if not batch.labelled:
                trailing = error.trailing_metadata() or ()
                batch.label(labels_of((*(error.initial_metadata() or ()), *trailing)))
            told(batch.rest(rpc.read(error), self._clock.now()))
        finally:
            if not stream.done():
                stream.cancel()


class _Batch:
    """What is known of one call: the orders without an outcome, and what Envoy said of it."""

    def __init__(self, orders: Sequence[Order], batch_id: str, start: datetime, seconds: float) -> None:
        self.id = batch_id
        self.seconds = seconds
        self.labelled = False
        self._start = start
        self._open = dict(enumerate(orders))
        # They have all of it in common: the group sees to that, and the draw sent is the first one's.
        self._assignment = replace(orders[0].assignment, batch_id=batch_id)
        self._head = orders[0]

    def label(self, labels: dict[str, str]) -> None:
        """Envoy has answered."""
        self._assignment = replace(assignment_of(self._head, labels), batch_id=self.id)
        self.labelled = True

    def outcomes(self, message: pb.ExecuteBatchResponse, now: datetime) -> list[tuple[int, AttemptResult]]:
        """Those of a message; what nobody asked, or was answered before, is left out."""
        return [
            (result.index, self._outcome(order, result, now))
            for result in message.results
            if (order := self._open.pop(result.index, None)) is not None
        ]

    def rest(self, report: rpc.RpcFailure | None, now: datetime) -> list[tuple[int, AttemptResult]]:
        """Outcomes of those that were not answered; `report` says how the call ended, None for well."""
        if report is None:
            report = rpc.RpcFailure(grpc.StatusCode.INTERNAL, "it was not answered", "", {}, ())
        left = self._open.items()
        return [(index, self._failed(order, report, now, own=False)) for index, order in left]

    def _outcome(self, order: Order, result: pb.BatchResult, now: datetime) -> AttemptResult:
        if result.WhichOneof("outcome") == "failure":
            report = rpc.read_status(result.failure)
            return self._failed(order, report, now, own=report.metadata.get("fault") == TARGET)
        return answered(order, self._assignment, result, self._start, now)

    def _failed(self, order: Order, report: rpc.RpcFailure, now: datetime, *, own: bool) -> AttemptResult:
        late = (now - self._start).total_seconds() >= order.seconds(self._start) - LATE_SECONDS
        reached = Reason.NODE_FAULT if self._assignment.chosen else Reason.MESH_UNREACHABLE
        own = own or late
        code = "DEADLINE_EXCEEDED" if late else report.code.name
        failure = Failure(
            code=code,
            reason=report.reason or (Reason.TIMEOUT if late else reached),
            message=report.message,
            retryable=code in RETRYABLE or not own,
            step=order.step,
        )
        return AttemptResult(
            Outcome.NO_EFFECT,
            self._assignment,
            self._start,
            now,
            failure=failure,
            counted=own,
            cost_nanos=cost_of(report),
        )


def _item(order: Order, seconds: float, longest: float) -> pb.BatchItem:
    item = pb.BatchItem(
        input=order.input.raw,
        run_id=order.run_id,
        step=order.step,
        attempt=order.attempt,
        idempotency_key=order.idempotency_key,
    )
    if seconds < longest:
        item.timeout.FromNanoseconds(int(seconds * 1e9))
    return item


def _envelope(head: Order, batch_id: str) -> tuple[tuple[str, str], ...]:
    envelope = (
        ("x-reflux-node", head.node),
        ("x-reflux-lane", head.assignment.lane.value),
        ("x-reflux-draw", str(head.assignment.draw)),
        ("x-reflux-effect", head.assignment.effect.value),
        ("x-reflux-batch-id", batch_id),
    )
    return (*envelope, SINGLE_TRY) if head.single else envelope
