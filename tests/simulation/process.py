"""An orchestrator as a process of a simulated world: the production parts, put together as `__main__` does.

Left out are the sockets, the tracer, the census and webhooks. What `__main__` gets from
the outside comes from the world: connections, the channel to the mesh, the clocks of its machine, notices.
What only looks, now and then, for what this world has not (`features`) is not run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from reflux.core.errors import NotFound, RefluxError
from reflux.core.reasons import Reason
from reflux.orchestrator.cached_caller import CachedCaller, Caller
from reflux.orchestrator.caller import NodeCaller
from reflux.orchestrator.changes import Changes
from reflux.orchestrator.children import Children
from reflux.orchestrator.effect_servicer import EffectServicer
from reflux.orchestrator.faulting import FaultDesk
from reflux.orchestrator.flows.cache import Resolved
from reflux.orchestrator.intake import Broken, Intake
from reflux.orchestrator.journal_reader import JournalReader
from reflux.orchestrator.launcher import Launcher
from reflux.orchestrator.operations.assembly import assemble
from reflux.orchestrator.result_cache import ResultCache
from reflux.orchestrator.run_servicer import RunServicer
from reflux.orchestrator.store.journal import ShardLease, Writer
from reflux.orchestrator.store.lease import Lease
from reflux.orchestrator.store.members import Membership
from reflux.orchestrator.store.start import Starter
from reflux.orchestrator.triggers.scheduler import Scheduler
from reflux.orchestrator.triggers.schedules import ScheduleStore
from reflux.orchestrator.waiting import Waiter
from reflux.orchestrator.words.service import Words
from reflux.orchestrator.worker import Worker
from reflux.runtime.clock import DatabaseClock
from tests.simulation.database import Database, SimConnection, SimPool
from tests.simulation.features import Feature
from tests.simulation.world import ProcessLoop, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from reflux.api.effect.v1 import effect_service_pb2 as effect_pb
    from reflux.core.flow import Flow
    from reflux.core.names import FlowId, RunId
    from reflux.orchestrator.mesh_view import MeshView
    from tests.simulation.outside import Outside
    from tests.simulation.redis import Redis

LEASE_SECONDS = 6.0
SHARDS = 4
LANES_SECONDS = 5.0


class Context:
    """A caller without headers."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


@dataclass(slots=True)
class Flows:
    """The flows of this world. Reading and compiling them is not what is simulated."""

    flows: Mapping[FlowId, Flow]
    names: Mapping[str, FlowId]
    loading: Callable[[], None] = lambda: None
    """Called whenever a run of it is about to be folded."""

    def forget(self, flow_id: FlowId) -> None:
        """Flows do not change here."""

    async def get(self, flow_id: FlowId, version: int) -> Flow:
        self.loading()
        return self.flows[flow_id]

    async def at(self, flow_id: FlowId, version: int) -> Resolved:
        return Resolved(flow_id, self.flows[flow_id].name, version, await self.get(flow_id, version))

    async def resolve(self, key: str) -> Resolved:
        flow_id = self.names.get(key)
        if flow_id is None:
            raise NotFound(Reason.FLOW_NOT_FOUND, "no such flow")
        return Resolved(flow_id, self.flows[flow_id].name, 1, self.flows[flow_id])


@dataclass(slots=True)
class Shared:
    """What the processes share."""

    world: World
    database: Database
    outside: Outside
    mesh: MeshView
    flows: Flows
    deadly: Flows
    """The same for whoever brings runs into memory: a poisoned one kills him."""
    changed: Callable[[Process, RunId, int], None]
    """The auditor, told of every commit that a process heard of."""
    processes: list[Process]
    features: frozenset[Feature]
    redis: Redis


class Notices:
    """Redis, which may forget anything."""

    def __init__(self, shared: Shared, process: Process) -> None:
        self._shared = shared
        self._process = process

    def tell_inbox(self, run_ids: Iterable[RunId]) -> None:
        self._tell(lambda process: process.intake.look())

    def tell_runs(self, last_seqs: Mapping[RunId, int]) -> None:
        changes = dict(last_seqs)
        self._tell(lambda process: [process.changes.tell(run_id) for run_id in changes], useful=0.1)

    def _tell(self, hear: Callable[[Process], object], *, useful: float = 1.0) -> None:
        world, plan = self._shared.world, self._shared.outside.plan
        for other in self._shared.processes:
            if other is self._process or world.rng.random() >= useful:
                continue
            if plan.happens(0.3):
                world.note("fault", "notice lost")
                continue
            if not other.loop.dead:
                world.after(world.rng.random() * 0.02, hear, other, loop=other.loop)


class Process:
    """One life of one orchestrator."""

    def __init__(self, shared: Shared, number: int, life: int) -> None:
        world = shared.world
        self.number = number
        self.address = f"orchestrator-{number}"
        self.name = f"o{number}.{life}"
        self._shared = shared
        self.loop = ProcessLoop(world, self.name, offset=world.rng.uniform(-1e6, 1e6))
        self.stopping = False
        world.after(0.0, self._boot, timedelta(hours=world.rng.uniform(-9, 9)), loop=self.loop)

    def _boot(self, skew: timedelta) -> None:
        shared, loop, world = self._shared, self.loop, self._shared.world

        async def connect(dsn: str, name: str) -> SimConnection:
            return await shared.database.connect(loop)

        pool: Any = SimPool(shared.database, loop)
        self.clock = DatabaseClock(monotonic=loop.time, wall=lambda: world.time() + skew)
        self.changes = Changes()
        wake: Any = Notices(shared, self)
        flows: Any = shared.flows
        self.writer = Writer("", admitted=self._admitted, connect=connect)  # type: ignore[arg-type]
        self.starter = Starter("", connect=connect)  # type: ignore[arg-type]
        self.reader = JournalReader(pool, flows)
        deadly: Any = shared.deadly
        self.children = Children(
            pool=pool, reader=self.reader, flows=flows, starter=self.starter, clock=self.clock
        )
        self.worker = Worker(
            writer=self.writer,
            caller=self._caller(),
            mesh=shared.mesh,
            clock=self.clock,
            host=self,
            children=self.children,
        )
        self.intake = Intake(
            pool=pool,
            reader=JournalReader(pool, deadly),
            writer=self.writer,
            worker=self.worker,
            clock=self.clock,
            children=self.children,
        )
        self.children.serve(self.worker, self.intake.look)
        membership = Membership(
            SimPool(shared.database, loop),  # type: ignore[arg-type]
            address=self.address,
            shards=SHARDS,
            lease_seconds=LEASE_SECONDS,
            uptime=loop.time,
        )
        self.lease = Lease(membership, self.intake, self.clock)
        self.effects = EffectServicer(self.worker)
        self._serve(pool, flows, wake)
        self._parts = [
            self._part(part)
            for part in (
                self.writer.run(),
                self.starter.run(),
                self.worker.run(),
                self.children.run(),
                self.intake.run(),
            )
        ]
        if Feature.SIGNALS in shared.features:
            self._parts.append(self._part(self.words.signals.run()))
        if Feature.SCHEDULES in shared.features:
            self._parts.append(self._part(self.scheduler.run()))
        self._member = self._part(self.lease.run())

    def _caller(self) -> Caller:
        caller = NodeCaller(self._shared.outside.channel(self.loop), self.address, self.clock)
        if Feature.CACHE not in self._shared.features:
            return caller
        results = ResultCache("", connect=lambda _: self._shared.redis.client(self.loop))
        return CachedCaller(caller, results, self.clock)

    def _serve(self, pool: Any, flows: Any, wake: Any) -> None:
        """What clients talk to."""
        launcher = Launcher(
            lease=self.lease, starter=self.starter, worker=self.worker, clock=self.clock, pool=pool
        )
        waiter = Waiter(worker=self.worker, reader=self.reader, changes=self.changes)
        self._wake = wake
        self.words = Words.over(
            pool,
            self.reader,
            self._shared.mesh,
            changes=self.changes,
            wake=wake,
            look=self.intake.look,
            clock=self.clock,
        )
        none: Any = None
        self.operations = assemble(
            self._shared.mesh, self.clock, pool, none, flows, self.reader, launcher, waiter, self.words.teller
        )
        self.schedules = ScheduleStore(pool)
        self.scheduler = Scheduler(
            store=self.schedules,
            flows=flows,
            launcher=launcher,
            lease=self.lease,
            pool=pool,
            heard=self._admitted,
        )
        self.runs = RunServicer(
            pool=pool,
            flows=flows,
            reader=self.reader,
            launcher=launcher,
            waiter=waiter,
            changes=self.changes,
            faults=FaultDesk(self._shared.mesh, allowed=True),
            words=self.words,
        )

    def _part(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A part that must never end by itself."""
        task: asyncio.Task[None] = self.loop.create_task(part)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not (task.cancelled() or self.loop.dead or self.stopping):
            self._shared.world.problems.append(f"{self.name}: a part ended: {task.exception()!r}")

    # What the worker tells its host.

    def changed(self, run_id: RunId, last_seq: int) -> None:
        self.changes.tell(run_id)
        self._wake.tell_runs({run_id: last_seq})
        self._shared.changed(self, run_id, last_seq)

    def unknown(self) -> None:
        self.lease.rejoin()

    def waits(self) -> None:
        self.words.signals.look()

    def _admitted(self, run_ids: Sequence[RunId]) -> None:
        """A word was left for these runs."""
        self._wake.tell_inbox(run_ids)
        self.intake.look()

    def broken(self, run_id: RunId, lease: ShardLease, problem: str, seq: int) -> None:
        self._shared.world.note("broken", self.name, problem)
        self.intake.broken(run_id, Broken(lease, problem, seq))

    # What others do to it.

    def claim(self, request: effect_pb.ClaimEffectRequest, answer: Callable[[str], None]) -> None:
        """A claim arrives; `answer` is called in this process, with the refusal, empty when it is granted."""

        async def ask() -> None:
            context: Any = Context()
            try:
                await self.effects.ClaimEffect(request, context)
            except RefluxError as error:
                answer(error.message)
            else:
                answer("")

        self.loop.create_task(ask())

    async def drain(self) -> None:
        """The planned way down, in the order of `__main__`."""
        self.stopping = True
        self.lease.give_up()
        await self.worker.drain()
        self.writer.close()
        self.starter.close()
        await asyncio.wait(self._parts[:2], timeout=LANES_SECONDS)
        self._member.cancel()
        for part in self._parts:
            part.cancel()
        await asyncio.wait([self._member], timeout=LANES_SECONDS)
