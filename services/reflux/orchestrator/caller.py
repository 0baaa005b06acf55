"""One attempt on the wire: the envelope out, the reply and Envoy's account of it back.

What was chosen, with which weight, at which revision, who answered after how many tries: all of it is read
from the reply, which Envoy labels also when it answers itself. What is known of the outside effect is stated
as carefully as the evidence allows; `reflux.core.attempt` adds what the claim tells.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.core.attempt import AttemptResult
from reflux.core.document import MAX_DOCUMENT_BYTES, Json
from reflux.core.effect import EffectClass
from reflux.core.event import Assignment, Failure, Outcome
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.orchestrator.tracing import Tracer
from reflux.runtime import rpc
from reflux.runtime.clock import Clock

EXECUTE: Final = "/reflux.api.node.v1.NodeService/Execute"

_RETRYABLE: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"})
_NOT_SENT: Final = frozenset({"UH", "NC", "NR", "UO"})
"""Envoy's flags for: no healthy host, no cluster, no route, a limit reached. Nothing was sent."""

_NOT_TAKEN: Final = frozenset({Reason.NODE_FULL, Reason.NODE_DRAINING})
"""The node's own words for: not now, and nothing was done."""


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt, ready to be sent."""

    run_id: RunId
    step: StepPath
    attempt: int
    fencing_token: int
    idempotency_key: str
    node: str
    version: str | None
    input: Json
    assignment: Assignment
    limit: timedelta
    """From sending to the deadline; Envoy gives up a little earlier, so that its account arrives."""
    total_deadline: datetime | None
    """When the step's total time is over, whatever `limit` says."""

    def seconds(self, now: datetime) -> float:
        """What is left for the call when it is sent now."""
        if self.total_deadline is None:
            return self.limit.total_seconds()
        return max(0.0, min(self.limit, self.total_deadline - now).total_seconds())


class NodeCaller:
    """Calls nodes through the mesh listener of Envoy."""

    def __init__(
        self, channel: grpc.aio.Channel, claim_address: str, clock: Clock, tracer: Tracer | None = None
    ) -> None:
        self._execute = channel.unary_unary(
            EXECUTE,
            request_serializer=pb.ExecuteRequest.SerializeToString,
            response_deserializer=pb.ExecuteResponse.FromString,
        )
        self._claim_address = claim_address
        self._clock = clock
        self._tracer = tracer

    async def call(self, order: Order) -> AttemptResult:
        """Sends one attempt and waits for its outcome, at most until its deadline."""
        start = self._clock.now()
        request = pb.ExecuteRequest(input=order.input.raw)
        call = self._execute(request, metadata=self._envelope(order), timeout=order.seconds(start))
        try:
            response: pb.ExecuteResponse = await call
        except grpc.aio.AioRpcError as error:
            return self._failed(order, error, start)
        assignment = _read_assignment(order, await call.initial_metadata())
        return self._answered(order, assignment, response.output, start)

    def _envelope(self, order: Order) -> tuple[tuple[str, str], ...]:
        envelope = [
            ("x-reflux-node", order.node),
            ("x-reflux-lane", order.assignment.lane.value),
            ("x-reflux-draw", str(order.assignment.draw)),
            ("x-reflux-run-id", order.run_id),
            ("x-reflux-step", order.step),
            ("x-reflux-attempt", str(order.attempt)),
            ("x-reflux-fencing-token", str(order.fencing_token)),
            ("x-reflux-effect", order.assignment.effect.value),
            ("x-reflux-idempotency-key", order.idempotency_key),
        ]
        if order.version is not None:
            envelope.append(("x-reflux-version", order.version))
        if order.assignment.effect is not EffectClass.PURE:
            envelope.append(("x-reflux-claim-address", self._claim_address))
        if self._tracer is not None:
            traceparent = self._tracer.traceparent(order.run_id, order.step, order.attempt)
            if traceparent is not None:
                envelope.append(("traceparent", traceparent))
        return tuple(envelope)

    def _answered(
        self, order: Order, assignment: Assignment, output: bytes, start: datetime
    ) -> AttemptResult:
        """A reply; one that is no JSON document of bearable size fails the step, but its effect is done."""
        document = Json(output)
        problem = _unfit(order, document)
        now = self._clock.now()
        if problem is None:
            return AttemptResult(Outcome.DONE, assignment, start, now, output=document)
        return AttemptResult(Outcome.DONE, assignment, start, now, failure=problem)

    def _failed(self, order: Order, error: grpc.aio.AioRpcError, start: datetime) -> AttemptResult:
        labels = (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))
        assignment = _read_assignment(order, labels)
        report = rpc.read(error)
        sent = not (_NOT_SENT & set(assignment.flags.split(","))) and report.reason not in _NOT_TAKEN
        reached = bool(assignment.chosen or assignment.tries or assignment.flags or report.reason)
        failure = Failure(
            code=report.code.name,
            reason=report.reason or _reason(reached=reached),
            message=report.message,
            retryable=report.code.name in _RETRYABLE,
            step=order.step,
        )
        return AttemptResult(
            outcome=_outcome(report.metadata, sent=sent),
            assignment=assignment,
            start_time=start,
            finish_time=self._clock.now(),
            failure=failure,
            counted=sent and (reached or report.code is not grpc.StatusCode.UNAVAILABLE),
        )


def _outcome(metadata: Mapping[str, str], *, sent: bool) -> Outcome:
    """What a failure says of the effect: nothing was sent, the node knows there is none, or nobody knows."""
    if not sent:
        return Outcome.NOT_SENT
    return Outcome.NO_EFFECT if metadata.get("outcome") == Outcome.NO_EFFECT else Outcome.AMBIGUOUS


def _reason(*, reached: bool) -> Reason:
    return Reason.NODE_FAULT if reached else Reason.MESH_UNREACHABLE


def _unfit(order: Order, document: Json) -> Failure | None:
    """Why an output cannot be journaled, or None."""
    size = len(document.raw)
    if size > MAX_DOCUMENT_BYTES:
        message = f"the output of step {order.step} is {size} bytes; the limit is {MAX_DOCUMENT_BYTES}"
        return Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=order.step)
    try:
        document.value  # noqa: B018 - read once here, used by every expression later
    except ValueError as error:
        message = f"the output of step {order.step} is not JSON: {error}"
        return Failure("INTERNAL", Reason.OUTPUT_INVALID, message, step=order.step)
    return None


def _read_assignment(order: Order, labels: Iterable[tuple[str, Any]] | None) -> Assignment:
    """The assignment as Envoy labelled the reply."""
    by_name = {key: value for key, value in labels or () if key.startswith("x-")}
    chosen = by_name.get("x-reflux-chosen", "")
    answered = by_name.get("x-reflux-answered-by", "")
    answered = "" if answered == "-" else answered
    flags = by_name.get("x-reflux-flags", "")
    reason = "weight" if chosen else ""
    if order.version is not None:
        chosen, reason = chosen or order.version, "pin"
    if answered and chosen and answered != chosen:
        reason = "fallback"
    return replace(
        order.assignment,
        chosen=chosen,
        weight=_number(by_name.get("x-reflux-weight")),
        revision=_number(by_name.get("x-reflux-revision")),
        answered_by=answered,
        reason=reason,
        tries=_number(by_name.get("x-envoy-attempt-count")),
        flags="" if flags == "-" else flags,
    )


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
