"""One attempt on the wire: the envelope out, the reply and Envoy's account of it back.

What was chosen, with which weight, at which revision, who answered after how many tries: all of it is read
from the reply, which Envoy labels also when it answers itself. What is known of the outside effect is stated
as carefully as the evidence allows; `reflux.core.attempt` adds what the claim tells.

What the labels prove, and no more:

    chosen            the route chose it; absent when Envoy has no route for the call
    service time      an answer came from a node, be it an error. Without it Envoy speaks for itself, and
                      `answered-by` is only who was tried last: nobody answered
    tries == 1 and    the chosen version was passed over without a try, because none of its endpoints was
    answered_by       healthy: ejected, or not there. Reason `ejected`
      != chosen
    tries > 1 and     another version answered a later try. Whether every version before it in the chain was
    answered_by       tried is not known, because one that is ejected meanwhile is passed over silently.
      != chosen       Reason `fallback`, as for the orchestrator's own next attempt, pinned to another version
    gate              Envoy speaks for itself before a version with limits: nobody answered, and these are
                      the flags
    flags             how the last try ended; of those before it they say nothing
    unanswered        of a call with faults: no version has said this, and these are the flags. FI: it was
                      aborted as asked for; `answered_by` is then in whose place, as if it had failed itself
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.core.attempt import AttemptResult
from reflux.core.cost import believable
from reflux.core.document import MAX_DEPTH, MAX_DOCUMENT_BYTES, Json, TooDeep, write
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Failure, Outcome
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.route import TRIES_ONCE, TRY_MS, inner_limit, shadow_cluster
from reflux.orchestrator.fairness import NOBODY, Turn
from reflux.orchestrator.result_cache import CacheEntry
from reflux.orchestrator.tracing import Tracer
from reflux.runtime import rpc
from reflux.runtime.clock import Clock

EXECUTE: Final = "/reflux.api.node.v1.NodeService/Execute"

MAX_RETRIES: Final = "x-envoy-max-retries"
TRY_TIMEOUT: Final = "x-envoy-upstream-rq-per-try-timeout-ms"
"""Both are heard by Envoy from internal addresses only, and go before what the node's route says."""

SINGLE_TRY: Final = (MAX_RETRIES, "0")

RETRYABLE: Final = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"}
)
"""CANCELLED too: what we cancel ourselves never ends as a status, so the other side gave up, as a node does
that is made to stop before it has finished."""
_GAVE_UP: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""What the other end of a connection says when it goes away."""
_NOT_SENT: Final = frozenset({"UH", "NC", "NR", "UO"})
"""Envoy's flags for: no healthy host, no cluster, no route, a limit reached. Nothing was sent."""

_MISSING: Final = {
    "node": Reason.NODE_NOT_FOUND,
    "version": Reason.NODE_VERSION_NOT_FOUND,
    "faults": Reason.FAULTS_NOT_ALLOWED,
}
"""`x-reflux-missing`, the label of Envoy's 404: what it has no route for."""

TARGET: Final = "target"
"""The node's word for a failure of what the input names."""

_SERVED: Final = "x-envoy-upstream-service-time"
"""Label of every answer that came from a node."""

_NOT_TAKEN: Final = frozenset({Reason.NODE_FULL, Reason.NODE_DRAINING, Reason.CLAIM_REFUSED})
"""The node's own words for: not now, and nothing was done. An attempt that is still ours is refused its claim
only while the node cannot reach us, or we could not record it."""

ABORTED: Final = "FI"
"""Envoy's flag for: a fault was injected."""
_TOO_LARGE: Final = "message larger than max"
"""gRPC's words for an answer that is there and cannot be taken in: the node has done its work."""


_LONGEST_COST: Final = 20
"""Digits."""

OVERRIDE: Final = "override"
"""Reason of a version that its step's own shares gave; by a sticky draw it is `STICKY`, as everywhere."""
STICKY: Final = "sticky"


class Group(NamedTuple):
    """Attempts that are equal in this may share a call."""

    node: str
    share: int
    """Which target of the route, by place."""
    limit: timedelta
    most: int
    """How many may share one."""
    sticky: bytes = b""
    """Digest of their sticky value; empty without one."""


class Again(NamedTuple):
    """It is sent again, because the attempt before never left us."""

    until: datetime | None = None
    """When its step is no longer patient; None: that is not due to this."""
    failure: Failure | None = None
    """Why that one did not leave."""


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
    turn: Turn = NOBODY
    """In whose turn it gets a place."""
    group: Group | None = None
    """With whom it may travel; None for one that travels alone."""
    cache: CacheEntry | None = None
    """Where an earlier output may be found, and this one left; None: nowhere."""
    shadow: str | None = None
    """The version that gets a copy of the call; None: nobody does."""
    declared: bool = False
    """The class is the flow's own word: the node takes the call also if it would call it weaker."""
    faults: tuple[tuple[str, str], ...] = ()
    """Headers for the mesh: what shall fail, in a test run."""
    fallback: bool = False
    """It goes to `version` because another one could not."""
    credentials: tuple[tuple[str, str], ...] = ()
    """Names of credentials, each after that of its slot."""
    repeats: bool = False
    """It follows an attempt that reached a node and failed: the version's retry budget pays for it."""
    again: Again | None = None
    """It is sent again; None: it is not."""
    reserved: tuple[tuple[str, int], ...] = ()
    """Versions, and the tokens of their budgets that Envoy may use up for further tries of them."""
    single: bool = False
    """A budget is empty: each version is tried once."""
    tries: int = 0
    """Of its version, by the step's own word; 0: as the node's route says."""
    try_timeout: timedelta | None = None
    """Limit of each of them, by the step's own word; None: as the node's route says."""

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
        self.channel = channel
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
        request = pb.ExecuteRequest(input=order.input.raw, credentials=dict(order.credentials))
        call = self._execute(request, metadata=self._envelope(order), timeout=order.seconds(start))
        try:
            response: pb.ExecuteResponse = await call
        except grpc.aio.AioRpcError as error:
            return self._failed(order, error, start)
        assignment = assignment_of(order, labels_of(await call.initial_metadata()))
        return answered(order, assignment, response, start, self._clock.now())

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
        envelope.extend(order.faults)
        if order.shadow is not None:
            envelope.append(("x-reflux-shadow", shadow_cluster(order.node, order.shadow)))
            envelope.append(("x-reflux-shadow-report", self._claim_address))
        if order.declared:
            envelope.append(("x-reflux-effect-declared", "1"))
        if order.version is not None:
            envelope.append(("x-reflux-version", order.version))
        if order.single:
            envelope.append(single_try(order))
        elif order.tries:
            envelope.append((MAX_RETRIES, str(order.tries - 1)))
        if order.try_timeout is not None:
            limit = max(1, order.try_timeout // timedelta(milliseconds=1))
            envelope += ((TRY_TIMEOUT, str(limit)), (TRY_MS, str(inner_limit(limit))))
        if order.assignment.effect is not EffectClass.PURE:
            envelope.append(("x-reflux-claim-address", self._claim_address))
        if self._tracer is not None:
            traceparent = self._tracer.traceparent(order.run_id, order.step, order.attempt)
            if traceparent is not None:
                envelope.append(("traceparent", traceparent))
        return tuple(envelope)

    def _failed(self, order: Order, error: grpc.aio.AioRpcError, start: datetime) -> AttemptResult:
        labels = labels_of((*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())))
        assignment = assignment_of(order, labels)
        report = rpc.read(error)
        if report.code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in report.message:
            failure = _too_large(order, f"larger than a message may be ({report.message})")
            return AttemptResult(Outcome.DONE, assignment, start, self._clock.now(), failure=failure)
        missing = _MISSING.get(labels.get("x-reflux-missing", ""))
        sent = not (missing or report.reason in _NOT_TAKEN or _never_left(assignment))
        reached = bool(assignment.chosen or assignment.tries or assignment.flags or report.reason)
        failure = Failure(
            code=report.code.name,
            reason=report.reason or _reason(reached=reached),
            message=report.message,
            retryable=report.code.name in RETRYABLE,
            step=order.step,
        )
        if missing is not None:
            failure = _missing(order, missing)
        return AttemptResult(
            outcome=_outcome(report.metadata, sent=sent),
            assignment=assignment,
            start_time=start,
            finish_time=self._clock.now(),
            failure=failure,
            outage=report.metadata.get("fault") == "node",
            own=report.metadata.get("fault") == TARGET,
            cost_nanos=cost_of(report),
            # Waiting helps with all that the mesh lacks, but not with a setting.
            counted=missing is Reason.FAULTS_NOT_ALLOWED
            or (sent and (reached or report.code not in _GAVE_UP)),
        )


def single_try(order: Order) -> tuple[str, str]:
    """What keeps Envoy from trying a version twice. Its fallbacks are left to a call that has some."""
    return SINGLE_TRY if order.version is not None else TRIES_ONCE


def answered(
    order: Order,
    assignment: Assignment,
    reply: pb.ExecuteResponse | pb.BatchResult,
    start: datetime,
    now: datetime,
) -> AttemptResult:
    """A reply; one that is no JSON document of bearable size fails the step, but its effect is done."""
    document = Json(reply.output)
    told = believable(reply.cost_nanos) if reply.HasField("cost_nanos") else None
    problem = _unfit(order, document)
    if problem is None:
        return AttemptResult(Outcome.DONE, assignment, start, now, output=document, cost_nanos=told)
    return AttemptResult(Outcome.DONE, assignment, start, now, failure=problem, cost_nanos=told)


def cost_of(report: rpc.RpcFailure) -> int | None:
    """What a call cost that failed."""
    told = report.metadata.get("cost_nanos", "")
    return believable(int(told)) if told.isdecimal() and len(told) < _LONGEST_COST else None


def _never_left(assignment: Assignment) -> bool:
    """Whether Envoy's flags say that nothing was sent.

    They speak of the last try. The tries before it were sent, and only those of the safe lane are known to
    have done nothing: it tries again on no other ground.
    """
    unsent = bool(_NOT_SENT & set(assignment.flags.split(",")))
    return unsent and (assignment.tries <= 1 or assignment.lane is Lane.SAFE)


def _missing(order: Order, reason: Reason) -> Failure:
    """Envoy has no route for what the registry knows: it will be told, unless the control plane is away."""
    if reason is Reason.FAULTS_NOT_ALLOWED:
        message = "the control plane allows no faults: its setting faults is off; nothing was sent"
        return Failure("FAILED_PRECONDITION", reason, message, step=order.step)
    what = order.node if order.version is None else f"{order.node}@{order.version}"
    message = f"the mesh does not know {what} yet; nothing was sent"
    return Failure("NOT_FOUND", reason, message, retryable=True, step=order.step)


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
        return _too_large(order, f"{size} bytes; the limit is {MAX_DOCUMENT_BYTES}")
    try:
        write(document.value)  # read once here, used by every expression later
    except TooDeep:
        return _too_large(order, f"nested deeper than {MAX_DEPTH} levels")
    except ValueError as error:
        message = f"the output of step {order.step} is not JSON: {error}"
        return Failure("INTERNAL", Reason.OUTPUT_INVALID, message, step=order.step)
    return None


def _too_large(order: Order, what: str) -> Failure:
    message = f"the output of step {order.step} is {what}"
    return Failure("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE, message, step=order.step)


def labels_of(metadata: Iterable[tuple[str, Any]] | None) -> dict[str, str]:
    """What Envoy wrote on the reply; `-` is its word for nothing."""
    return {key: "" if value == "-" else value for key, value in metadata or () if key.startswith("x-")}


def assignment_of(order: Order, labels: Mapping[str, str]) -> Assignment:
    """The assignment as Envoy labelled the reply."""
    chosen = labels.get("x-reflux-chosen", "")
    gate = labels.get("x-reflux-gate", "")
    unanswered = labels.get("x-reflux-unanswered", "") if order.faults else ""
    from_node = _SERVED in labels and not gate and unanswered in ("", ABORTED)
    answered = labels.get("x-reflux-answered-by", "") if from_node else ""
    tries = _number(labels.get("x-envoy-attempt-count"))
    own = order.assignment.reason in (OVERRIDE, STICKY)
    return replace(
        order.assignment,
        chosen=chosen,
        # To Envoy a version of the step's own choice is a pin: the probability is that of the choice.
        weight=order.assignment.weight if own and chosen else _number(labels.get("x-reflux-weight")),
        revision=_number(labels.get("x-reflux-revision")),
        answered_by=answered,
        reason=_why(order, chosen, answered, tries),
        tries=tries,
        flags=unanswered or gate or labels.get("x-reflux-flags", ""),
    )


def _why(order: Order, chosen: str, answered: str, tries: int) -> str:
    """The reason of the journal; see the table above."""
    if chosen and answered and answered != chosen:
        return "ejected" if tries == 1 else "fallback"
    if order.version is not None:
        return "fallback" if order.fallback else order.assignment.reason or "pin"
    if not chosen:
        return ""
    return STICKY if order.assignment.sticky else "weight"


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
