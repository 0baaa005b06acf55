"""Several attempts in one call: Envoy hands them on together; what single items do is nobody's illness."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc

from reflux.controlplane.graph import Endpoint
from reflux.controlplane.routes import Target
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Outcome
from reflux.core.names import RunId, StepPath
from reflux.orchestrator.batch_call import BatchCaller
from reflux.orchestrator.caller import Order
from reflux.runtime import rpc
from reflux.runtime.clock import DatabaseClock
from reflux.runtime.settings import Address, Settings
from reflux.sdk import Model, NodeFault, TargetFault, node
from reflux.sdk.claims import Claims
from reflux.sdk.serving import node_server
from tests.mesh.support.mesh import NODE

if TYPE_CHECKING:
    from reflux.core.attempt import AttemptResult
    from tests.mesh.support.mesh import Mesh


class Input(Model):
    """What an item is about."""

    does: str = "work"


class Output(Model):
    """Who did it."""

    by: str


@dataclass
class Served:
    """A version as the SDK serves it, in the place of the mesh's own nodes."""

    version: str
    ill: bool = False
    done: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("127.0.0.1", 0))

    async def begin(self, mesh: Mesh) -> None:
        """Serve until the mesh ends."""

        async def work(given: Input) -> Output:
            """Does as the item says."""
            if self.ill or given.does == "node_fault":
                raise NodeFault(grpc.StatusCode.UNAVAILABLE, "ill")
            if given.does == "target_fault":
                raise TargetFault(grpc.StatusCode.UNAVAILABLE, "its target is ill")
            if given.does == "wait":
                await self.gate.wait()
            self.done += 1
            return Output(by=self.version)

        made = node(
            NODE,
            self.version,
            effect=EffectClass.PURE,
            attempt_timeout=timedelta(seconds=20),
            batchable=True,
        )(work)
        claims = await mesh.stack.enter_async_context(Claims())
        server = node_server(made, Settings(), claims=claims, address=Address("127.0.0.1", 0))
        bound = await mesh.stack.enter_async_context(server)
        self.endpoint = Endpoint(bound.host, bound.port)
        mesh.nodes.append(self)  # type: ignore[arg-type]


async def two_versions(mesh: Mesh, **route: Any) -> tuple[Served, Served]:
    """The first gets everything, the second is its fallback."""
    first, second = Served("1.0.0"), Served("2.0.0")
    for served in (first, second):
        await served.begin(mesh)
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), **route))
    return first, second


def orders(*does: str, draw: int = 0) -> list[Order]:
    """Attempts as the worker makes them."""
    return [
        Order(
            run_id=RunId(f"r{number}"),
            step=StepPath("s"),
            attempt=1,
            fencing_token=1,
            idempotency_key="k",
            node=NODE,
            version=None,
            input=Json.of({"does": each}),
            assignment=Assignment(EffectClass.PURE, Lane.BROAD, draw=draw),
            limit=timedelta(seconds=15),
            total_deadline=None,
        )
        for number, each in enumerate(does)
    ]


class Batch:
    """One call, going on; `outcomes` by place as they come."""

    def __init__(self, mesh: Mesh, *does: str, draw: int = 0) -> None:
        self.outcomes: dict[int, AttemptResult] = {}
        self._wanted = len(does)
        self._task = asyncio.ensure_future(self._call(mesh, orders(*does, draw=draw)))

    async def _call(self, mesh: Mesh, given: list[Order]) -> None:
        clock = DatabaseClock()
        clock.set_offset(datetime.now(UTC))
        async with rpc.channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
            await BatchCaller(channel, clock).call(given, self._told)

    def _told(self, results: Any) -> bool:
        self.outcomes.update(results)
        return len(self.outcomes) < self._wanted

    async def all(self) -> list[AttemptResult]:
        """Every outcome, in order."""
        async with asyncio.timeout(20):
            await self._task
        return [self.outcomes[place] for place in range(self._wanted)]


async def test_a_batch_goes_where_its_draw_says(mesh: Mesh) -> None:
    """All of it to one version, and every item is told what was chosen, by which weight and revision."""
    first, second = Served("1.0.0"), Served("2.0.0")
    for served in (first, second):
        await served.begin(mesh)
    await mesh.route(Target("1.0.0", 7000), Target("2.0.0", 3000))
    for draw, version, weight in ((6999, "1.0.0", 7000), (7000, "2.0.0", 3000)):
        results = await Batch(mesh, *["work"] * 10, draw=draw).all()
        assert {result.outcome for result in results} == {Outcome.DONE}
        told = {result.assignment for result in results}
        assert len(told) == 1, "what they share"
        (assignment,) = told
        assert (assignment.chosen, assignment.answered_by, assignment.weight) == (version, version, weight)
        assert (assignment.revision, assignment.tries, assignment.reason) == (mesh.revision, 1, "weight")
        assert assignment.batch_id
    assert (first.done, second.done) == (10, 10)


async def test_a_version_that_is_ill_loses_the_whole_batch_to_the_next(mesh: Mesh) -> None:
    """One call, two tries, and every item is answered by the fallback."""
    first, second = await two_versions(mesh)
    first.ill = True
    results = await Batch(mesh, *["work"] * 20).all()
    assert [result.outcome for result in results] == [Outcome.DONE] * 20
    assert {(each.assignment.answered_by, each.assignment.tries) for each in results} == {("2.0.0", 2)}
    assert {each.assignment.reason for each in results} == {"fallback"}
    assert second.done == 20


async def test_a_version_that_is_gone_loses_it_too(mesh: Mesh) -> None:
    """Nothing listens there."""
    first, second = await two_versions(mesh)
    first.endpoint = Endpoint("127.0.0.1", 1)
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    results = await Batch(mesh, *["work"] * 5).all()
    assert {(each.outcome, each.assignment.answered_by) for each in results} == {(Outcome.DONE, "2.0.0")}
    assert (first.done, second.done) == (0, 5)


async def test_when_no_version_is_well_nobody_is_blamed(mesh: Mesh) -> None:
    """Every item comes back uncounted, to be asked again alone."""
    for served in await two_versions(mesh):
        served.ill = True
    results = await Batch(mesh, *["work"] * 5).all()
    assert {(each.outcome, each.counted) for each in results} == {(Outcome.NO_EFFECT, False)}
    assert {each.failure.code for each in results if each.failure} == {"UNAVAILABLE"}
    assert {each.assignment.tries for each in results} == {2}


async def test_one_item_that_fails_fails_alone(mesh: Mesh) -> None:
    """A NodeFault beside answers is neither tried again by Envoy nor their loss; a TargetFault counts."""
    first, second = await two_versions(mesh)
    results = await Batch(mesh, "work", "node_fault", "target_fault", "work").all()
    assert [each.outcome is Outcome.DONE for each in results] == [True, False, False, True]
    assert [each.counted for each in results] == [True, False, True, True]
    assert (first.done, second.done) == (2, 0)


async def test_a_slow_item_holds_nobody_up(mesh: Mesh) -> None:
    """The others are answered through Envoy while it works."""
    first, _ = await two_versions(mesh)
    batch = Batch(mesh, "work", "wait", "work")
    async with asyncio.timeout(20):
        while len(batch.outcomes) < 2:
            await asyncio.sleep(0.01)
    assert set(batch.outcomes) == {0, 2}
    first.gate.set()
    assert [each.outcome for each in await batch.all()] == [Outcome.DONE] * 3


async def test_the_limit_of_a_try_is_for_the_first_answer(mesh: Mesh) -> None:
    """It hands on a batch of which nothing comes; once something came, a slow item has its own time."""
    first, second = await two_versions(mesh, try_timeout_ms=300)
    results = await Batch(mesh, "wait").all() if second.gate.set() is None else []
    assert {each.assignment.answered_by for each in results} == {"2.0.0"}
    batch = Batch(mesh, "work", "wait")
    await asyncio.sleep(1)
    assert set(batch.outcomes) == {0}
    first.gate.set()
    assert [each.assignment.answered_by for each in await batch.all()] == ["1.0.0", "1.0.0"]


async def test_faults_of_items_eject_nobody(mesh: Mesh) -> None:
    """However many: only a batch that fails as a whole is an illness, and it counts once."""
    first, _ = await two_versions(mesh)
    for _ in range(20):
        await Batch(mesh, "work", *["node_fault"] * 10, *["target_fault"] * 10).all()
    await asyncio.sleep(1.5)  # an interval of the share of failures
    assert not sum((await mesh.proxy.stats("ejections_enforced_total$")).values())
    first.ill = True
    for _ in range(5):
        await Batch(mesh, *["work"] * 10).all()
    async with asyncio.timeout(20):
        while not sum((await mesh.proxy.stats("ejections_enforced_total$")).values()):
            await asyncio.sleep(0.1)
    results = await Batch(mesh, *["work"] * 3).all()
    assert {(each.assignment.reason, each.assignment.tries) for each in results} == {("ejected", 1)}
