"""The orchestrator as a process: settings → stores and mesh → worker → servicers → serve.

Coming up: know the mesh, then join the members, then own shards and resume their runs. Going down: take
nothing new, let attempts with effects finish, write what is in hand, give the shards away, leave.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import grpc
import psycopg

from reflux.api.effect.v1.effect_service_pb2_grpc import add_EffectServiceServicer_to_server
from reflux.api.flow.v1.contract_service_pb2_grpc import add_ContractServiceServicer_to_server
from reflux.api.flow.v1.flow_service_pb2_grpc import add_FlowServiceServicer_to_server
from reflux.api.operation.v1.operation_service_pb2_grpc import add_OperationServiceServicer_to_server
from reflux.api.run.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from reflux.api.shadow.v1.shadow_service_pb2_grpc import add_ShadowServiceServicer_to_server
from reflux.api.trigger.v1.trigger_service_pb2_grpc import add_TriggerServiceServicer_to_server
from reflux.core.names import RunId
from reflux.orchestrator.cached_caller import CachedCaller
from reflux.orchestrator.caller import NodeCaller
from reflux.orchestrator.census import Census
from reflux.orchestrator.changes import Changes
from reflux.orchestrator.children import Children
from reflux.orchestrator.contracts.catalog import SchemaReader
from reflux.orchestrator.contracts.desk import ContractDesk
from reflux.orchestrator.contracts.servicer import ContractServicer
from reflux.orchestrator.contracts.uses import UseReader
from reflux.orchestrator.contracts.watch import NewVersions
from reflux.orchestrator.effect_servicer import EffectServicer
from reflux.orchestrator.faulting import FaultDesk
from reflux.orchestrator.flows.cache import FlowCache
from reflux.orchestrator.flows.servicer import FlowServicer
from reflux.orchestrator.flows.store import FlowStore
from reflux.orchestrator.intake import Broken, Intake
from reflux.orchestrator.journal_reader import JournalReader
from reflux.orchestrator.launcher import Launcher
from reflux.orchestrator.mesh_view import MeshView
from reflux.orchestrator.operations.assembly import assemble
from reflux.orchestrator.provenance import Tries
from reflux.orchestrator.result_cache import ResultCache
from reflux.orchestrator.run_servicer import RunServicer
from reflux.orchestrator.shadows.calling import ShadowedCaller
from reflux.orchestrator.shadows.desk import Desk
from reflux.orchestrator.shadows.servicer import ShadowServicer
from reflux.orchestrator.store import slots
from reflux.orchestrator.store.journal import ShardLease, Writer
from reflux.orchestrator.store.lease import Lease
from reflux.orchestrator.store.members import Membership
from reflux.orchestrator.store.start import Starter, forget_expired
from reflux.orchestrator.store.wake import Wake
from reflux.orchestrator.tracing import Tracer
from reflux.orchestrator.triggers.wiring import wire as wire_triggers
from reflux.orchestrator.upkeep import Terms, Upkeep
from reflux.orchestrator.waiting import Waiter
from reflux.orchestrator.words.service import Words
from reflux.orchestrator.worker import Worker
from reflux.runtime import migrate, places, proxies
from reflux.runtime.clock import DatabaseClock
from reflux.runtime.collector import Collector
from reflux.runtime.postgres import Pool, open_pool
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Settings
from reflux.runtime.tasks import forever
from reflux.runtime.tls import Identity
from reflux.runtime.trace_export import exporting

SERVICES: Final = (
    "reflux.api.flow.v1.FlowService",
    "reflux.api.flow.v1.ContractService",
    "reflux.api.run.v1.RunService",
    "reflux.api.operation.v1.OperationService",
    "reflux.api.trigger.v1.TriggerService",
    "reflux.api.effect.v1.EffectService",
    "reflux.api.shadow.v1.ShadowService",
)
PUBLIC: Final = (
    "reflux.api.flow.v1.FlowService",
    "reflux.api.flow.v1.ContractService",
    "reflux.api.run.v1.RunService",
    "reflux.api.operation.v1.OperationService",
    "reflux.api.trigger.v1.TriggerService",
    "reflux.api.registry.v1.RegistryService",
    "reflux.api.routing.v1.RoutingService",
    "reflux.api.shadow.v1.ShadowService",
)
"""What reflection lists: the edge asks this server on behalf of all that it serves."""
POOL_SIZE: Final = 16
FORGET_SECONDS: Final = 600.0
"""Between two clean-ups of start-once handles that have expired."""
LANES_SECONDS: Final = 5.0
"""How long what is queued may take to be written on the way down."""


async def serve(settings: Settings, *, ready: asyncio.Event | None = None) -> None:
    """Serves until cancelled, then drains and hands its shards over."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.postgres_dsn, service="orchestrator", max_size=POOL_SIZE)
        )
        async with pool.connection() as connection:
            await migrate.check_version(connection, "orchestrator")
        # Heartbeats wait for no reader.
        members_pool = await stack.enter_async_context(
            open_pool(settings.postgres_dsn, service="orchestrator", max_size=2)
        )
        mesh_channel = await stack.enter_async_context(proxies.channel(settings))
        exporter = await stack.enter_async_context(exporting(Collector.of(settings)))
        tracer = None
        if exporter is not None:
            instance = places.reached(
                settings, settings.orchestrator_address, through=proxies.addresses(settings)[0]
            )
            tracer = Tracer(exporter, ratio=settings.trace_ratio, instance=str(instance))
        await Orchestrator(settings, pool, members_pool, mesh_channel, tracer).run(ready)


class Orchestrator:
    """Its parts, wired; itself the worker's host."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        members_pool: Pool,
        mesh_channel: grpc.aio.Channel,
        tracer: Tracer | None,
    ) -> None:
        self._address = places.listening(settings, settings.orchestrator_address)
        address = places.reached(
            settings, settings.orchestrator_address, through=proxies.addresses(settings)[0]
        )
        self._pool = pool
        self._clock = DatabaseClock()
        self._changes = Changes()
        self._wake = Wake(settings.redis_url)
        self._writer = Writer(settings.postgres_dsn, admitted=self._admitted)
        self._starter = Starter(settings.postgres_dsn, beside=self._writer.stats)
        self._identity = Identity.of(settings)
        self.mesh = MeshView(settings.registry_address, settings.controlplane_address, self._identity)
        store = FlowStore(pool)
        flows = FlowCache(store)
        reader = JournalReader(pool, flows)
        self._allow_faults = settings.faults == "test"
        self._results = ResultCache(settings.redis_url)
        self._tries = Tries(settings.controlplane_address, self._identity)
        self._schemas = SchemaReader(settings.registry_address, self._identity)
        self._contracts = ContractDesk(UseReader(pool), self._schemas, self.mesh)
        self._desk = Desk(pool)
        self._children = Children(
            pool=pool, reader=reader, flows=flows, starter=self._starter, clock=self._clock
        )
        caller = NodeCaller(mesh_channel, str(address), self._clock, tracer)
        self._worker = Worker(
            writer=self._writer,
            caller=CachedCaller(ShadowedCaller(caller, self._desk), self._results, self._clock),
            mesh=self.mesh,
            clock=self._clock,
            host=self,
            tracer=tracer,
            children=self._children,
        )
        self._intake = Intake(
            pool=pool,
            reader=reader,
            writer=self._writer,
            worker=self._worker,
            clock=self._clock,
            children=self._children,
        )
        self._children.serve(self._worker, self._intake.look)
        membership = Membership(
            members_pool, address=str(address), shards=settings.shards, lease_seconds=settings.lease_seconds
        )
        self._lease = Lease(membership, self._intake, self._clock)
        self._census = Census(pool, self._lease) if settings.metrics_address else None
        self._upkeep = Upkeep(pool, Terms.of_days(settings.run_retention_days))
        launcher = Launcher(
            lease=self._lease, starter=self._starter, worker=self._worker, clock=self._clock, pool=self._pool
        )
        self._serve_with(pool, store, flows, reader, launcher)

    def _serve_with(
        self, pool: Pool, store: FlowStore, flows: FlowCache, reader: JournalReader, launcher: Launcher
    ) -> None:
        """The servicers, over what walks."""
        waiter = Waiter(worker=self._worker, reader=reader, changes=self._changes)
        self._triggers = wire_triggers(
            pool=pool,
            store=store,
            flows=flows,
            launcher=launcher,
            lease=self._lease,
            waiter=waiter,
            reader=reader,
            clock=self._clock,
            heard=self._left_words,
        )
        self._flow_servicer = FlowServicer(
            store=store,
            cache=flows,
            catalog=self.mesh,
            clock=self._clock,
            triggers=self._triggers.planner,
        )
        self._words = self._words_over(pool, reader)
        self._run_servicer = RunServicer(
            pool=pool,
            flows=flows,
            reader=reader,
            launcher=launcher,
            waiter=waiter,
            changes=self._changes,
            words=self._words,
            faults=FaultDesk(self.mesh, allowed=self._allow_faults),
            tries=self._tries,
        )
        self._operation_servicer = assemble(
            self.mesh, self._clock, pool, store, flows, reader, launcher, waiter, self._words.teller
        )

    def _words_over(self, pool: Pool, reader: JournalReader) -> Words:
        return Words.over(
            pool,
            reader,
            self.mesh,
            changes=self._changes,
            wake=self._wake,
            look=self._intake.look,
            clock=self._clock,
        )

    def changed(self, run_id: RunId, last_seq: int) -> None:
        """Tells who waits here, and through Redis/Valkey who waits elsewhere."""
        self._changes.tell(run_id)
        self._wake.tell_runs({run_id: last_seq})

    def _left_words(self, run_ids: Sequence[RunId]) -> None:
        """Tells who owns these runs."""
        self._wake.tell_inbox(run_ids)
        self._intake.look()

    def waits(self) -> None:
        """Gives it the signal that it waits for, if that is kept already."""
        self._words.signals.look()

    def _admitted(self, run_ids: Sequence[RunId]) -> None:
        """Tells the owners of runs that got a slot, ourselves among them."""
        self._wake.tell_inbox(run_ids)
        self._intake.look()

    def unknown(self) -> None:
        """Begins a new life as a member."""
        self._lease.rejoin()

    def broken(self, run_id: RunId, lease: ShardLease, problem: str, seq: int) -> None:
        """Has the run read again, or parked."""
        self._intake.broken(run_id, Broken(lease, problem, seq))

    async def run(self, ready: asyncio.Event | None) -> None:
        """Everything that goes on, until cancelled; then the way down, in order."""
        async with asyncio.TaskGroup() as group:
            mesh = group.create_task(self.mesh.follow())
            lanes = [group.create_task(self._writer.run()), group.create_task(self._starter.run())]
            others = [
                group.create_task(part)
                for part in (
                    self._worker.run(),
                    self._children.run(),
                    self._intake.run(),
                    self._words.signals.run(),
                    self._wake.run(),
                    self._hear_words(),
                    self._hear_runs(),
                    self._forget_start_keys(),
                    self._triggers.scheduler.run(),
                    self._upkeep.run(),
                    self._desk.run(),
                    NewVersions(self._contracts, self.mesh).run(),
                )
            ]
            lease: asyncio.Task[None] | None = None
            try:
                async with self._serving():
                    await self.mesh.synced.wait()
                    lease = group.create_task(self._lease.run())
                    if self._census is not None:
                        others.append(group.create_task(self._census.run()))
                    if ready is not None:
                        ready.set()
                    await asyncio.get_running_loop().create_future()
            finally:
                self._writer.close()
                self._starter.close()
                await asyncio.wait(lanes, timeout=LANES_SECONDS)
                await self._results.close()
                await self._tries.close()
                await self._schemas.close()
                for task in [*([lease] if lease else []), *others, mesh]:
                    task.cancel()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        """The servicers; left, the worker drains while claims can still be made."""
        register = [
            lambda server: add_FlowServiceServicer_to_server(self._flow_servicer, server),
            lambda server: add_ContractServiceServicer_to_server(ContractServicer(self._contracts), server),
            lambda server: add_RunServiceServicer_to_server(self._run_servicer, server),
            lambda server: add_OperationServiceServicer_to_server(self._operation_servicer, server),
            lambda server: add_TriggerServiceServicer_to_server(self._triggers.servicer, server),
            lambda server: add_ShadowServiceServicer_to_server(
                ShadowServicer(self._pool, self._desk), server
            ),
            lambda server: add_EffectServiceServicer_to_server(EffectServicer(self._worker), server),
        ]
        async with grpc_server(
            address=self._address,
            register=register,
            services=SERVICES,
            reflected=PUBLIC,
            identity=self._identity,
        ):
            try:
                yield
            finally:
                self._lease.give_up()
                await self._worker.drain()

    async def _hear_words(self) -> None:
        with self._wake.listen_inbox() as notices:
            async for _ in notices:
                self._intake.look()

    async def _hear_runs(self) -> None:
        with self._wake.listen_runs() as notices:
            async for notice in notices:
                for run_id in notice:
                    self._changes.tell(run_id)

    async def _forget_start_keys(self) -> None:
        """Every orchestrator does, now and then; that two do at once costs nothing. Rates go with them."""
        for _ in forever():
            await asyncio.sleep(FORGET_SECONDS)
            with suppress(psycopg.Error):
                await forget_expired(self._pool)
                await slots.forget_rates(self._pool)
