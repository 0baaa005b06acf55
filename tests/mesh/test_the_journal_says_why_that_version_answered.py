"""The orchestrator's own caller on a real Envoy: what it will journal of a call is what happened."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from reflux.controlplane.routes import Target
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Outcome
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.orchestrator.caller import NodeCaller, Order
from reflux.runtime.clock import ManualClock
from tests.mesh.support.mesh import NODE
from tests.mesh.support.node import hang, node_fault, work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from reflux.core.attempt import AttemptResult
    from tests.mesh.support.mesh import Mesh

    Calling = Callable[..., Awaitable[AttemptResult]]


@asynccontextmanager
async def _calling(mesh: Mesh) -> AsyncIterator[Calling]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
        caller = NodeCaller(channel, "127.0.0.1:1", ManualClock(datetime.now(UTC)))

        async def call(*, draw: int = 0, pin: str | None = None, lane: Lane = Lane.BROAD) -> AttemptResult:
            effect = EffectClass.PURE if lane is Lane.BROAD else EffectClass.IDEMPOTENT
            order = Order(
                run_id=RunId("r"),
                step=StepPath("s"),
                attempt=1,
                fencing_token=1,
                idempotency_key="k",
                node=NODE,
                version=pin,
                input=Json(b"{}"),
                assignment=Assignment(effect, lane, draw=draw),
                limit=timedelta(seconds=20),
                total_deadline=None,
            )
            return await caller.call(order)

        yield call


@pytest.fixture
async def calling(mesh: Mesh) -> AsyncIterator[Calling]:
    """1.0.0 has 7000 and falls back to 2.0.0, which has 3000."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 7000, fallback=("2.0.0",), try_timeout_ms=1000), Target("2.0.0", 3000))
    async with _calling(mesh) as call:
        yield call


async def test_by_weight(calling: Calling) -> None:
    """The draw, what it chose with which weight at which revision, and who answered."""
    found = (await calling(draw=6999)).assignment
    assert (found.draw, found.chosen, found.weight, found.revision) == (6999, "1.0.0", 7000, 1)
    assert (found.answered_by, found.reason, found.tries, found.flags) == ("1.0.0", "weight", 1, "")
    assert (await calling(draw=7000)).assignment.chosen == "2.0.0"


async def test_by_fallback(mesh: Mesh, calling: Calling) -> None:
    """The chosen version was tried and failed; the share stays that of the choice."""
    for behaviour in (node_fault(), hang):
        mesh.nodes[0].behaviour = behaviour
        found = (await calling()).assignment
        assert (found.chosen, found.weight, found.answered_by) == ("1.0.0", 7000, "2.0.0")
        assert (found.reason, found.tries) == ("fallback", 2)


async def test_because_the_chosen_one_is_ejected(mesh: Mesh, calling: Calling) -> None:
    """Its whole share is answered by its fallback at the first try, in both lanes, until it is back."""
    settings = "outlier_detection.base_ejection_time_ms=2000&outlier_detection.max_ejection_time_ms=2000"
    await mesh.proxy.admin_post(f"/runtime_modify?{settings}")
    ill = mesh.nodes[0]
    ill.behaviour = node_fault()
    async with asyncio.timeout(20):
        while (found := (await calling(draw=0)).assignment).reason != "ejected":
            assert found.reason == "fallback"
    assert (found.chosen, found.weight, found.answered_by) == ("1.0.0", 7000, "2.0.0")
    assert (found.tries, found.flags) == (1, "")
    ill.behaviour = work
    seen = set()
    async with asyncio.timeout(20):
        while (found := (await calling(lane=Lane.SAFE)).assignment).reason != "weight":
            seen.add(found.reason)
    assert seen <= {"ejected"}
    assert found.answered_by == "1.0.0"


async def test_a_version_without_a_process_is_passed_over_like_an_ejected_one(mesh: Mesh) -> None:
    """A reply cannot tell the two apart, and the reason means both."""
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    async with _calling(mesh) as call:
        found = (await call()).assignment
    assert (found.chosen, found.answered_by, found.reason) == ("1.0.0", "2.0.0", "ejected")


async def test_nobody_answered(mesh: Mesh, calling: Calling) -> None:
    """Whoever was tried last is not named, whatever stopped it; what was sent counts as sent."""
    mesh.nodes[0].behaviour = mesh.nodes[1].behaviour = hang
    result = await calling()
    found = result.assignment
    assert (found.chosen, found.answered_by, found.reason, found.tries) == ("1.0.0", "", "weight", 2)
    assert "UT" in found.flags
    assert result.counted


async def test_the_last_try_found_nobody(mesh: Mesh) -> None:
    """The first was sent all the same, so the attempt counts against the step's retry policy."""
    (await mesh.node("1.0.0")).behaviour = node_fault()
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    async with _calling(mesh) as call:
        result = await call()
    assert (result.assignment.flags, result.assignment.tries, result.assignment.answered_by) == ("UH", 2, "")
    assert (result.outcome, result.counted) == (Outcome.AMBIGUOUS, True)


async def test_nobody_is_there(mesh: Mesh) -> None:
    """Nothing was sent, which costs the step nothing but patience."""
    await mesh.route(Target("1.0.0", 10_000))
    async with _calling(mesh) as call:
        result = await call()
    assert (result.assignment.chosen, result.assignment.flags) == ("1.0.0", "UH")
    assert (result.outcome, result.counted) == (Outcome.NOT_SENT, False)


async def test_a_pin_that_the_mesh_does_not_know(calling: Calling) -> None:
    """404: typed, not sent, nothing chosen. The version may only just have registered."""
    result = await calling(pin="9.9.9")
    assert result.failure is not None
    assert (result.failure.code, result.failure.reason) == ("NOT_FOUND", Reason.NODE_VERSION_NOT_FOUND)
    assert (result.outcome, result.counted) == (Outcome.NOT_SENT, False)
    assert (result.assignment.chosen, result.assignment.reason, result.assignment.revision) == ("", "pin", 1)
