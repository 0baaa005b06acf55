"""The journal's assignment is read from the labels of a reply, and claims no more than they prove."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import (
    NodeServiceServicer,
    add_NodeServiceServicer_to_server,
)
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Outcome
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.orchestrator.caller import NodeCaller, Order
from reflux.runtime import rpc
from reflux.runtime.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reflux.core.attempt import AttemptResult

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@dataclass
class _Envoy(NodeServiceServicer):
    """Answers with the labels a test gives."""

    labels: dict[str, str] = field(default_factory=dict)
    code: grpc.StatusCode = grpc.StatusCode.OK
    output: bytes = b"{}"
    cost: int | None = None

    async def Execute(self, request: Any, context: Any) -> pb.ExecuteResponse:
        metadata = tuple(self.labels.items())
        if self.code is not grpc.StatusCode.OK:
            await context.abort(self.code, "words", metadata)
        await context.send_initial_metadata(metadata)
        return pb.ExecuteResponse(output=self.output, cost_nanos=self.cost)


@asynccontextmanager
async def _caller(envoy: _Envoy) -> AsyncIterator[NodeCaller]:
    server = grpc.aio.server()
    add_NodeServiceServicer_to_server(envoy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with rpc.channel(f"127.0.0.1:{port}") as channel:
        yield NodeCaller(channel, "127.0.0.1:1", ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    await server.stop(0)


async def _call(
    labels: dict[str, str],
    *,
    code: grpc.StatusCode = grpc.StatusCode.OK,
    pin: str | None = None,
    lane: Lane = Lane.BROAD,
    output: bytes = b"{}",
    cost: int | None = None,
) -> AttemptResult:
    effect = EffectClass.PURE if lane is Lane.BROAD else EffectClass.IDEMPOTENT
    order = Order(
        run_id=RunId("r"),
        step=StepPath("s"),
        attempt=1,
        fencing_token=1,
        idempotency_key="k",
        node="ai.chat",
        version=pin,
        input=Json(b"{}"),
        assignment=Assignment(effect, lane, draw=7),
        limit=timedelta(seconds=20),
        total_deadline=None,
    )
    async with _caller(_Envoy(labels, code, output, cost)) as caller:
        return await caller.call(order)


def _labels(answered: str, tries: int, *, flags: str = "-", served: bool = True) -> dict[str, str]:
    labels = {
        "x-reflux-chosen": "1.0.0",
        "x-reflux-weight": "9000",
        "x-reflux-revision": "4",
        "x-reflux-answered-by": answered,
        "x-reflux-flags": flags,
        "x-envoy-attempt-count": str(tries),
    }
    return labels | ({"x-envoy-upstream-service-time": "3"} if served else {})


@pytest.mark.parametrize(
    ("answered", "tries", "reason"),
    [
        ("1.0.0", 1, "weight"),
        ("1.0.0", 2, "weight"),
        ("2.0.0", 1, "ejected"),
        ("2.0.0", 2, "fallback"),
    ],
)
@pytest.mark.parametrize("code", [grpc.StatusCode.OK, UNAVAILABLE])
async def test_the_reason_says_why_that_version_answered(
    answered: str, tries: int, reason: str, code: grpc.StatusCode
) -> None:
    """Passed over at the first try, or left behind at a later one; an error is an answer too."""
    found = (await _call(_labels(answered, tries), code=code)).assignment
    assert (found.reason, found.answered_by, found.tries) == (reason, answered, tries)
    assert (found.chosen, found.weight, found.revision, found.draw) == ("1.0.0", 9000, 4, 7)


async def test_an_output_that_no_message_holds_is_named_and_not_asked_for_again() -> None:
    """100 MB: the node has done its work, and gave more than a run can take."""
    result = await _call(_labels("1.0.0", 1), output=b'"' + b"x" * 100_000_000 + b'"')
    assert result.outcome is Outcome.DONE
    assert result.failure is not None
    assert (result.failure.code, result.failure.reason) == ("OUT_OF_RANGE", Reason.OUTPUT_TOO_LARGE)
    assert result.failure.step == "s"
    assert "100000" in result.failure.message


async def test_a_pin_is_the_reason_of_a_pinned_call() -> None:
    """The step named the version; no weight had a say."""
    assert (await _call(_labels("1.0.0", 1), pin="1.0.0")).assignment.reason == "pin"


@pytest.mark.parametrize(("flags", "tries"), [("URX,UT", 2), ("UH", 2), ("URX,UF", 1), ("-", 0)])
async def test_who_was_tried_last_has_not_answered(flags: str, tries: int) -> None:
    """Envoy speaks for itself: the choice stands, and nobody is named as who answered."""
    result = await _call(_labels("2.0.0", tries, flags=flags, served=False), code=UNAVAILABLE)
    found = result.assignment
    assert (found.chosen, found.answered_by, found.reason) == ("1.0.0", "", "weight")


@pytest.mark.parametrize(
    ("tries", "lane", "outcome"),
    [
        (1, Lane.BROAD, Outcome.NOT_SENT),
        (1, Lane.SAFE, Outcome.NOT_SENT),
        # The safe lane gets to a second try only when nothing was done in the first.
        (2, Lane.SAFE, Outcome.NOT_SENT),
        (2, Lane.BROAD, Outcome.AMBIGUOUS),
    ],
)
async def test_no_healthy_endpoint_at_the_last_try_says_nothing_of_the_tries_before(
    tries: int, lane: Lane, outcome: Outcome
) -> None:
    """What was sent counts against the step's retry policy, even if the last try found nobody."""
    result = await _call(_labels("1.0.0", tries, flags="UH", served=False), code=UNAVAILABLE, lane=lane)
    assert (result.outcome, result.counted) == (outcome, outcome is not Outcome.NOT_SENT)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("version", Reason.NODE_VERSION_NOT_FOUND), ("node", Reason.NODE_NOT_FOUND)],
)
async def test_what_the_mesh_does_not_know_yet_was_not_sent(missing: str, reason: Reason) -> None:
    """Envoy's 404 is no fault of any node: typed, sent again, and not counted. Nothing was chosen."""
    labels = {"x-reflux-missing": missing, "x-reflux-revision": "4", "x-reflux-flags": "-"}
    result = await _call(labels, code=grpc.StatusCode.UNIMPLEMENTED, pin="9.9.9")
    assert result.failure is not None
    assert (result.failure.code, result.failure.reason) == ("NOT_FOUND", reason)
    assert "ai.chat@9.9.9" in result.failure.message
    assert (result.outcome, result.counted, result.failure.retryable) == (Outcome.NOT_SENT, False, True)
    assert (result.assignment.chosen, result.assignment.reason) == ("", "pin")


async def test_a_control_plane_that_allows_no_faults_fails_the_attempt() -> None:
    """Nothing was sent, and it is not tried again for a minute: only a setting can help."""
    result = await _call({"x-reflux-missing": "faults"}, code=grpc.StatusCode.UNIMPLEMENTED)
    assert result.failure is not None
    assert (result.failure.code, result.failure.reason) == ("FAILED_PRECONDITION", Reason.FAULTS_NOT_ALLOWED)
    assert (result.outcome, result.counted, result.failure.retryable) == (Outcome.NOT_SENT, True, False)


async def test_a_nodes_own_unimplemented_is_its_own() -> None:
    """The same code without Envoy's label is the node's answer."""
    result = await _call(_labels("1.0.0", 1), code=grpc.StatusCode.UNIMPLEMENTED)
    assert result.failure is not None
    assert (result.failure.code, result.failure.reason) == ("UNIMPLEMENTED", Reason.NODE_FAULT)
    assert result.counted


@pytest.mark.parametrize("code", [UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_a_connection_that_goes_away_costs_patience_only(code: grpc.StatusCode) -> None:
    """No label: nobody took the call, however the other end says that it leaves."""
    result = await _call({}, code=code)
    assert result.failure is not None
    assert (result.failure.reason, result.failure.retryable) == (Reason.MESH_UNREACHABLE, True)
    assert not result.counted


async def test_a_node_that_gives_up_a_call_may_be_asked_again() -> None:
    """CANCELLED of a node counts as its failure; we never cancelled it."""
    result = await _call(_labels("1.0.0", 1), code=grpc.StatusCode.CANCELLED)
    assert result.failure is not None
    assert (result.failure.reason, result.failure.retryable) == (Reason.NODE_FAULT, True)
    assert result.counted


@pytest.mark.parametrize(("told", "kept"), [(None, None), (0, 0), (12, 12), (-1, None), (1 << 62, None)])
async def test_a_reply_tells_what_the_call_cost(told: int | None, kept: int | None) -> None:
    """What cannot be a cost counts as not told, and the output stands."""
    result = await _call({}, cost=told)
    assert (result.outcome, result.cost_nanos) == (Outcome.DONE, kept)
