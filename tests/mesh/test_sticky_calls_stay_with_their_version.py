"""What the orchestrator draws is what Envoy chooses: counted over many calls, and while a canary grows."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc

from reflux.controlplane.routes import Target
from reflux.core.command import StartAttempt
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Outcome
from reflux.core.expression import compile_expression
from reflux.core.names import RunId, StepPath
from reflux.core.route import draw, sticky_digest, sticky_draw
from reflux.orchestrator.caller import NodeCaller, Order
from reflux.orchestrator.dispatch import choose
from reflux.orchestrator.mesh_view import Reach
from reflux.runtime.clock import ManualClock
from tests.mesh.support.mesh import NODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from reflux.core.event import Assignment
    from tests.mesh.support.mesh import Mesh

    Calling = Callable[..., Awaitable[Assignment]]

CALLS = 10_000
AT_ONCE = 50
SALT = "salt"
STICKY = Reach((), None, sticky=compile_expression("input.customer"), salt=SALT)


@asynccontextmanager
async def _calling(mesh: Mesh) -> AsyncIterator[Calling]:
    """Calls as the orchestrator makes them, from the command to the assignment that is journaled."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
        caller = NodeCaller(channel, "127.0.0.1:1", ManualClock(datetime.now(UTC)))
        places = asyncio.Semaphore(AT_ONCE)

        async def call(given: Any, *, run: str = "r", attempt: int = 1, **more: Any) -> Assignment:
            command = StartAttempt(StepPath("s"), attempt, 0, NODE, None, Json.of(given), None, None, **more)
            command, assignment = choose(command, RunId(run), STICKY)
            order = Order(
                run_id=RunId(run),
                step=command.step,
                attempt=attempt,
                fencing_token=1,
                idempotency_key="k",
                node=NODE,
                version=command.version,
                input=command.input,
                assignment=replace(assignment, effect=EffectClass.PURE, lane=Lane.BROAD),
                limit=timedelta(seconds=20),
                total_deadline=None,
            )
            async with places:
                result = await caller.call(order)
            assert result.outcome is Outcome.DONE, result.failure
            return result.assignment

        yield call


async def _canary(mesh: Mesh, share: int) -> None:
    await mesh.route(Target("1.0.0", 10_000 - share), Target("2.0.0", share))


def _chosen(draws: Iterable[int], share: int) -> Counter[str]:
    """What the draws predict."""
    return Counter("2.0.0" if number >= 10_000 - share else "1.0.0" for number in draws)


async def test_ten_thousand_calls_are_counted_as_the_draws_predict(mesh: Mesh) -> None:
    """With fixed run ids to the last call, whoever sticks to something and whoever does not."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await _canary(mesh, 3_000)
    inputs = [{"customer": f"c{number % 700}"} if number % 2 else {} for number in range(CALLS)]
    expected = [
        sticky_draw(sticky_digest(NODE, SALT, Json.of(given["customer"]).raw))
        if given
        else draw(NODE, RunId(f"run-{number}"), StepPath("s"), 1)
        for number, given in enumerate(inputs)
    ]
    async with _calling(mesh) as call:
        found = await asyncio.gather(
            *(call(given, run=f"run-{number}") for number, given in enumerate(inputs))
        )
    assert [each.draw for each in found] == expected
    predicted = _chosen(expected, 3_000)
    assert Counter(each.chosen for each in found) == predicted
    assert Counter(each.answered_by for each in found) == predicted
    for each, given in zip(found, inputs, strict=True):
        assert (each.reason, bool(each.sticky)) == (("sticky", True) if given else ("weight", False))


async def test_a_customer_stays_while_the_canary_grows(mesh: Mesh) -> None:
    """From 1 % over 10 % and 50 % to 100 %: who has met it never meets the old version again."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    customers = [{"customer": f"customer {number}"} for number in range(400)]
    met: set[int] = set()
    async with _calling(mesh) as call:
        for share in (100, 1_000, 5_000, 10_000):
            await _canary(mesh, share)
            seen = await asyncio.gather(
                *(call(each, run=f"{share}-{number}") for number, each in enumerate(customers))
            )
            now = {number for number, each in enumerate(seen) if each.answered_by == "2.0.0"}
            assert met <= now
            assert len(now) == _chosen((each.draw for each in seen), share)["2.0.0"]
            met = now
    assert len(met) == len(customers)


async def test_a_second_attempt_keeps_the_draw(mesh: Mesh) -> None:
    """What sticks asks the same version again; what does not may meet another one."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await _canary(mesh, 5_000)
    async with _calling(mesh) as call:
        sticky = {(await call({"customer": "ada"}, attempt=each)).answered_by for each in range(1, 20)}
        free = {(await call({}, attempt=each)).answered_by for each in range(1, 20)}
    assert len(sticky) == 1
    assert len(free) == 2


async def test_a_steps_own_shares_touch_nobody_else(mesh: Mesh) -> None:
    """At once, to the last call, with their own probability; the node's route goes on beside."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        await mesh.node(version)
    await _canary(mesh, 1_000)
    own = (("1.0.0", 2_000), ("3.0.0", 8_000))
    async with _calling(mesh) as call:
        found = await asyncio.gather(*(call({}, run=f"run-{number}", versions=own) for number in range(300)))
        beside = await asyncio.gather(*(call({}, run=f"run-{number}") for number in range(300)))
        sticky = await call({"customer": "ada"}, versions=own)
    for each in found:
        version = "3.0.0" if each.draw >= 2_000 else "1.0.0"
        assert (each.chosen, each.answered_by, each.weight) == (version, version, dict(own)[version])
        assert (each.reason, each.sticky) == ("override", b"")
    assert Counter(each.chosen for each in beside) == _chosen((each.draw for each in beside), 1_000)
    assert {each.reason for each in beside} == {"weight"}
    assert (sticky.reason, sticky.weight) == ("sticky", dict(own)[sticky.chosen])
