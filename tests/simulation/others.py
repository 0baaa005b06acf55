"""Who else has to do with the runs of a world: senders of signals under a key, who forks runs, the schedule.

What limits, schedules and signals do by themselves is done by the orchestrators. Here is who uses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.operation.v1 import operation_service_pb2 as operation_pb
from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.core.errors import Unavailable
from reflux.core.flow.scheduled import Scheduled
from reflux.orchestrator.triggers.schedules import first_firing
from tests.simulation.features import SHOPS, TRIGGER, Feature
from tests.simulation.process import SHARDS, Context
from tests.simulation.schedule_tables import ScheduleRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reflux.core.flow import Flow
    from reflux.core.names import FlowId
    from tests.simulation.judge import Told
    from tests.simulation.process import Process
    from tests.simulation.tables import Run, Tables
    from tests.simulation.world import World

ASKS = 4
"""How often a signal is sent until its sender is content with knowing that it is kept."""
_AT_REST = ("SUCCEEDED", "FAILED", "CANCELED", "PARKED")


class Others:
    """All of them; `ask` as `_Simulation._ask`."""

    def __init__(  # noqa: PLR0917 - all that it needs of a world
        self,
        world: World,
        features: frozenset[Feature],
        told: Told,
        tables: Tables,
        flows: Mapping[FlowId, Flow],
        ask: Any,
    ) -> None:
        self._world = world
        self._features = features
        self._told = told
        self._tables = tables
        self._flows = flows
        self._ask = ask
        self._forked = 0
        self.open = 0
        """Things that are still to be done."""

    def begin(self) -> None:
        """At the beginning of a world."""
        rng = self._world.rng
        if Feature.SCHEDULES in self._features:
            self._schedule()
        if Feature.SIGNALS in self._features:
            for number in range(rng.randint(2, 5)):
                self.open += 1
                self._world.after(rng.uniform(0, 6), self._signal, f"signal-{number}", rng.choice(SHOPS))

    def hear_of(self, run_id: str) -> None:
        """A run was begun, and its id is known."""
        if Feature.FORKS in self._features and self._forked < 2:
            self._forked += 1
            self.open += 1
            self._world.after(self._world.rng.uniform(1, 6), self._fork, run_id, self._forked)

    def queues(self, run_id: str, waits: Callable[[Run], bool]) -> bool:
        """Whether a run waits for a slot that those who have them hold until a person comes.

        `waits`: whether a run waits for another one, and that for a person.
        """
        slot = self._tables.limits.slots.get(run_id)
        if slot is None or slot.held or self._tables.runs[run_id].state != "QUEUED":
            return False
        limit = self._tables.limits.limits[slot.place]
        holders = [
            one
            for one, other in self._tables.limits.slots.items()
            if other.held and other.place == slot.place
        ]
        return limit.held >= limit.slots and all(
            self._tables.runs[one].state in _AT_REST or waits(self._tables.runs[one]) for one in holders
        )

    # Signals under a key.

    def _signal(self, signal_id: str, shop: str) -> None:
        document = HttpBody(
            content_type="application/json",
            data=orjson.dumps({"key": shop, "signal_id": signal_id, "payload": 1}),
        )
        request = run_pb.SendSignalRequest(signal="ready", document=document)

        def sent(answer: bytes) -> None:
            taken = orjson.loads(answer)["run_ids"]
            self._world.note("sent", signal_id, [run_id[-6:] for run_id in taken])
            self._told.signals.setdefault(f"{shop}:{signal_id}", set()).update(taken)
            self.open -= 1

        asked = 0

        async def call(process: Process) -> HttpBody:
            nonlocal asked
            asked += 1
            try:
                return await process.runs.SendSignal(request, Context())
            except Unavailable:
                if asked < ASKS:
                    raise
                return HttpBody(
                    data=b'{"run_ids":[]}'
                )  # a run in quarantine has it, and may keep it for days

        self._ask("send", call, sent)

    # Forks.

    def _fork(self, run_id: str, number: int) -> None:
        """Goes on from a run that has come to its end, from some step or from what failed."""
        world, row = self._world, self._tables.runs[run_id]
        if row.finished_at is None:
            if row.state in ("PARKED", "QUEUED") or world.now > 12:
                self.open -= 1  # nobody can fork it
            else:
                world.after(world.rng.uniform(0.3, 2), self._fork, run_id, number)
            return
        key = f"fork-{number}"
        retries = row.state != "SUCCEEDED" and world.rng.random() < 0.6
        step = world.rng.choice([path for path in self._flows[row.flow_id].steps if "/" not in path])  # type: ignore[index]
        said = {} if retries else {"from_step": step}
        body = HttpBody(content_type="application/json", data=orjson.dumps(said))
        kind = operation_pb.RetryRunRequest if retries else operation_pb.ForkRunRequest
        request: Any = kind(run_id=run_id, request_id=key, document=body)

        async def call(process: Process) -> HttpBody:
            servicer = process.operations
            return await (servicer.RetryRun if retries else servicer.ForkRun)(request, Context())

        def forked(answer: bytes) -> None:
            made = orjson.loads(answer)["run"]["id"]
            world.note("forked", run_id[-6:], made[-6:], said)
            self._told.runs.setdefault(key, set()).add(made)
            self.open -= 1

        def refused() -> None:
            self.open -= 1

        self._told.runs.setdefault(key, set())
        self._ask("fork", call, forked, refused)

    # The schedule.

    def _schedule(self) -> None:
        [flow_id] = [one for one, flow in self._flows.items() if flow.trigger(TRIGGER) is not None]
        trigger = self._flows[flow_id].trigger(TRIGGER)
        assert isinstance(trigger, Scheduled)
        first, fire_at = first_firing(flow_id, trigger, self._world.time())
        shard, rule = self._world.rng.randrange(SHARDS), trigger.described()["rule"]
        self._tables.schedules.rows[flow_id, TRIGGER] = ScheduleRow(1, shard, rule, first, fire_at)
        self.open += 1
        self._world.after(self._world.rng.uniform(3, 7), self._pause, flow_id)

    def _pause(self, flow_id: FlowId) -> None:
        async def call(process: Process) -> HttpBody:
            await process.schedules.pause(flow_id, TRIGGER)
            return HttpBody()

        def paused(_: bytes) -> None:
            self._world.note("paused the schedule")
            self.open -= 1

        self._ask("pause the schedule", call, paused)
