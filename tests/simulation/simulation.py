"""One seed, one world: three orchestrators, a flow, its clients, everything that goes wrong, and the verdict.

    simulate(123)  →  Report(seed=123, problems=[], events=412, faults=9, …)

Everything follows from the seed: the flow (eight seeds share one, which is compiled once), the plan of
faults, every delay. Nothing reads a clock, draws a number or opens a socket of this machine (`virtual`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.run.v1 import run_service_pb2 as run_pb
from reflux.core.errors import AlreadyExists, Conflict, RefluxError, TryLater
from reflux.core.event import FINAL
from reflux.core.names import FlowId
from reflux.core.reasons import Reason
from reflux.core.run import fold
from reflux.orchestrator import codec
from tests.simulation.database import Database
from tests.simulation.features import SHOPS, Feature, features_of, spec_of
from tests.simulation.judge import Told, known, verdict
from tests.simulation.judge_features import judge_features
from tests.simulation.others import Others
from tests.simulation.outside import Outside, mesh_view
from tests.simulation.people import People
from tests.simulation.plan import ORCHESTRATORS, Plan, ProcessFault
from tests.simulation.process import Context, Flows, Process, Shared
from tests.simulation.redis import Redis
from tests.simulation.tables import Run, Tables
from tests.simulation.virtual import virtual
from tests.simulation.world import ProcessLoop, World
from tests.support.random_flow import INPUT, WAITS, random_flow
from tests.support.walk import flow_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from reflux.api.effect.v1 import effect_service_pb2 as effect_pb
    from reflux.core.flow import Flow
    from reflux.core.names import RunId
    from reflux.core.state import RunState

FLOW: Final = FlowId("00000000-0000-4000-8000-000000000001")
OTHER: Final = FlowId("00000000-0000-4000-8000-000000000002")
TELL: Final = FlowId("00000000-0000-4000-8000-000000000003")
NAMES: Final = {FLOW: FLOW, "other": OTHER, "tell": TELL}
"""The flow that clients start, the one that its steps start, and the one that hears of a failure."""
SEEDS_OF_A_FLOW: Final = 8
HORIZON: Final = 500.0
"""Seconds in which every world must have come to rest; ten runs in a queue may take half of it."""
_SOON: Final = timedelta(seconds=5)
"""Who takes a shard over takes on what is due so soon, and nothing else."""
_LATELY: Final = timedelta(seconds=1)
ANSWER_SECONDS: Final = 8.0
_LIMITS: Final = (Reason.CONCURRENCY_LIMIT, Reason.RATE_LIMIT)
"""Reasons for which a run is refused that may begin later, when its flow says so."""
ENOUGH_EVENTS: Final = 200
ENOUGH_FAULTS: Final = 5
MOST_ROUNDS: Final = 12
"""A world that has come to rest with less goes on, with one more client and more faults, so often."""
_ENDS: Final = frozenset({*(phase.value for phase in FINAL), "PARKED"})


@dataclass(slots=True)
class Report:
    """What became of a seed."""

    seed: int
    problems: list[str]
    events: int
    faults: int
    seconds: float
    """Of virtual time."""
    states: list[str]
    trace: list[str] = field(default_factory=list)


class Killed(BaseException):
    """The process died at this line."""


@lru_cache(maxsize=64)
def _flows(number: int) -> dict[FlowId, Flow]:
    rng = Random(f"flow {number}")
    nodes, waits = ("pure", "pure", "idem", "once", "comp"), (*WAITS, "9s")
    alone = number % 2 == 0
    first, beside = spec_of(features_of(number), Random(f"beside {number}"))
    without = ("result", "flow") if alone else ("result",)
    flow = random_flow(rng, nodes=nodes, waits=waits, without=without, first=first, beside=beside)
    if alone:
        return {FLOW: flow}
    other = random_flow(rng, nodes=nodes, waits=waits, without=("result", "flow"))
    return {FLOW: flow, OTHER: other, TELL: flow_of({"id": "t", "node": "once", "with": {"n": 1}})}


_MESH: Final = mesh_view()
_MESH_OF_BATCHES: Final = mesh_view(batches=True)


def simulate(seed: int, *, traced: bool = False, calm: bool = False) -> Report:
    """The life of the world of a seed."""
    with virtual(seed):
        simulation = _Simulation(seed, traced=traced, calm=calm)
        try:
            return simulation.run()
        except Exception as error:  # noqa: BLE001 - of the judge, say, who reads a journal that makes no sense
            return simulation.broken(error)
        finally:
            simulation.bury()


class _Simulation:
    def __init__(self, seed: int, *, traced: bool, calm: bool) -> None:
        self.seed = seed
        self.world = world = World(seed, traced=traced)
        rng = Random(f"plan {seed}")
        self.plan = Plan.of(rng, calm=calm or rng.random() < 0.04)
        self.tables = Tables(world.time)
        self.outside = Outside(world, self.plan, self._claim_at)
        self.database = Database(world, self.tables, self.plan)
        self.flows = _flows(seed // SEEDS_OF_A_FLOW)
        self.features = features_of(seed // SEEDS_OF_A_FLOW)
        self.shared = Shared(
            world,
            self.database,
            self.outside,
            _MESH_OF_BATCHES if Feature.BATCHES in self.features else _MESH,
            Flows(self.flows, NAMES),
            Flows(self.flows, NAMES, self._loading),
            self._changed,
            [],
            self.features,
            Redis(world, self.plan),
        )
        self.outside.token_of = self._token_of
        self.lives = [0] * ORCHESTRATORS
        self.buried: list[Process] = []
        self.told = Told({}, {})
        self.people = People(world, self.flows[FLOW], self.plan, self.told, self.tables, self._ask)
        self.others = Others(world, self.features, self.told, self.tables, self.flows, self._ask)
        self.open = 0
        """Things that clients still have to do."""
        self._last_owner: dict[str, str] = {}

    def run(self) -> Report:
        for number in range(ORCHESTRATORS):
            self.shared.processes.append(Process(self.shared, number, 0))
        clients = 2 if self.world.rng.random() < 0.3 else 1
        clients += 2 * (Feature.LIMITS in self.features) + (Feature.SIGNALS in self.features)
        for number in range(clients):
            self._client(f"key-{number}")
        self.others.begin()
        for fault in self.plan.processes:
            self.world.after(fault.at, self._strike, fault)
        rests = self.world.run(self._rests, HORIZON)
        for number in range(MOST_ROUNDS):
            if not rests or self.plan.calm or self._has_enough():
                break
            self._client(f"more-{number}")
            fault = self.plan.more(self.world.now)
            self.world.after(fault.at - self.world.now, self._strike, fault)
            rests = self.world.run(self._rests, self.world.now + HORIZON)
        if rests and self.world.rng.random() < 0.2:
            self.world.run(lambda: False, self.world.now + 8)  # nothing may come after the end
            rests = self.world.run(self._rests, self.world.now + HORIZON)  # but a start that was on its way
        problems = self.world.problems
        if not rests:
            problems.append(f"the world does not come to rest: {self.open} open, {self.outside.busy} busy")
        states: dict[str, RunState] = {}
        problems += verdict(
            self.tables,
            self.outside,
            self.told,
            self.flows,
            broken={run_id for run_id, _ in self.database.bad},
            calm=self.plan.calm,
            poison=self.plan.poison,
            states=states,
        )
        if self.features:
            problems += judge_features(
                self.tables, states, self.outside, self.told, self.flows, calm=self.plan.calm
            )
        return Report(
            self.seed,
            problems,
            self.world.events,
            self.plan.struck,
            self.world.now,
            [row.state for row in self.tables.runs.values()],
            self.world.trace or [],
        )

    def broken(self, error: Exception) -> Report:
        """Of a world that could not be lived to its end."""
        world = self.world
        problem = f"the world ends with {type(error).__name__}: {error}"
        trace = world.trace or []
        return Report(self.seed, [problem], world.events, self.plan.struck, world.now, [], trace)

    def bury(self) -> None:
        for process in (*self.shared.processes, *self.buried):
            process.loop.bury()

    def _has_enough(self) -> bool:
        return self.world.events >= ENOUGH_EVENTS and self.plan.struck >= ENOUGH_FAULTS

    def _rests(self) -> bool:
        return (
            not self.open
            and not self.people.open
            and not self.others.open
            and not self.outside.busy
            and all(
                row.state in _ENDS
                or self._waits_for_a_parked(row)
                or self.others.queues(run_id, self._waits_for_a_parked)
                for run_id, row in self.tables.runs.items()
            )
            and all(self._is_left(run_id, kind) for _, run_id, kind, *_ in self.tables.inbox.values())
        )

    def _is_left(self, run_id: str, kind: str) -> bool:
        """Whether a word need not be heard any more; one for a child that has not begun is looked after."""
        run = self.tables.runs.get(run_id)
        return run is not None and (run.finished_at is not None or self.tables.kept_for_later(run_id, kind))

    def _waits_for_a_parked(self, row: Run) -> bool:
        """Whether a run waits for one that it has started, and that for a person."""
        return (
            OTHER in self.flows
            and row.state != "PAUSED"
            and row.wake_at is not None
            and row.wake_at > self.world.time() + timedelta(minutes=30)
            and any(run.state == "PARKED" and run.flow_id == OTHER for run in self.tables.runs.values())
        )

    # Clients.

    def _client(self, key: str) -> None:
        """Starts a run, as often as it takes, with the same request_id; may be doubled; may cancel."""
        world = self.world
        self.told.runs[key] = set()
        given: dict[str, Any] = INPUT
        if self.features:
            given = {**INPUT, "shop": world.rng.choice(SHOPS), "rank": crc32(key.encode()) % 10}
        request = run_pb.ExecuteFlowRequest(
            flow_id=FLOW,
            input=HttpBody(content_type="application/json", data=orjson.dumps(given)),
            request_id=key,
        )

        def started(answer: bytes) -> None:
            run_id = orjson.loads(answer)["id"]
            first = not self.told.runs[key]
            self.told.runs[key].add(run_id)
            world.note("started", key, run_id[-6:])
            if first:
                self.people.hear_of(run_id)
                self.others.hear_of(run_id)
            if first and self.plan.cancel_at is not None:
                at = max(self.plan.cancel_at - world.now, 0.0)
                self.open += 1
                world.after(at, self._cancel, run_id)
            self.open -= 1

        def refused() -> None:
            world.note("refused for good", key)
            self.open -= 1

        final = refused if Feature.LIMITS in self.features else None
        at = world.rng.uniform(0, 1.5)
        for _ in range(2 if self.plan.happens(0.2) else 1):
            self.open += 1
            world.after(
                at, self._ask, "start", lambda p: p.runs.ExecuteFlow(request, Context()), started, final
            )
            at += world.rng.uniform(0.0, 0.15)

    def _cancel(self, run_id: str) -> None:
        request = run_pb.CancelRunRequest(run_id=run_id)

        def canceled(_: bytes) -> None:
            self.told.cancels.setdefault(run_id, self.world.now)
            self.world.note("canceled", run_id[-6:])
            self.open -= 1

        self._ask("cancel", lambda process: process.runs.CancelRun(request, Context()), canceled)

    def _ask(
        self,
        what: str,
        call: Callable[[Process], Coroutine[Any, Any, HttpBody]],
        answered: Callable[[bytes], None],
        refused: Callable[[], None] | None = None,
    ) -> None:
        """Asks any orchestrator, and another one without an answer; without `refused` also if it refuses."""
        world, process = self.world, self._any()
        done = False

        def again() -> None:
            nonlocal done
            if not done:
                done = True
                world.after(0.3, self._ask, what, call, answered, refused)

        def heard(answer: bytes | None) -> None:
            nonlocal done
            if done:
                return
            done = True
            if answer is not None:
                answered(answer)
            elif refused is not None:
                refused()

        async def serve() -> None:
            try:
                answer = (await call(process)).data
            except AlreadyExists:
                raise
            except RefluxError as error:
                world.note("refused", process.name, what, error.message)
                if what == "cancel" and isinstance(error, Conflict):
                    world.problems.append(f"a cancel went unheard: {error.message}")
                later = isinstance(error, TryLater | Conflict) and error.reason not in _LIMITS
                final = refused is not None and not later
                world.after(0.002, heard, None) if final else world.after(0.002, again)
            except Exception as error:  # noqa: BLE001 - the edge answers INTERNAL, and the client comes again
                world.note("failed", process.name, what, repr(error))
                world.after(0.002, again)
            else:
                if self.plan.happens(0.05):
                    world.note("fault", "answer lost")
                else:
                    world.after(0.002, heard, answer)

        world.note("ask", process.name, what)
        if process.loop.dead or process.stopping:
            world.after(0.01, again)
            return
        world.after(0.002, process.loop.create_task_of, serve, loop=process.loop)
        world.after(ANSWER_SECONDS, again)

    def _any(self) -> Process:
        return self.shared.processes[self.world.rng.randrange(ORCHESTRATORS)]

    # What the orchestrators meet.

    def _claim_at(
        self, address: str, request: effect_pb.ClaimEffectRequest, answer: Callable[[str], None]
    ) -> None:
        world = self.world
        process = next(one for one in self.shared.processes if one.address == address)
        if process.loop.dead:
            world.after(0.002, answer, "UNAVAILABLE")
            return

        def back(refusal: str) -> None:
            if self.plan.happens(0.02):
                world.note("fault", "answer to a claim lost")
            else:
                world.after(world.rng.random() * 0.005, answer, refusal)

        world.after(0.0, process.claim, request, back, loop=process.loop)

    def _token_of(self, loop: ProcessLoop, run_id: str) -> int:
        [process] = [one for one in self.shared.processes if one.loop is loop]
        run = process.worker.runs.get(run_id)  # type: ignore[call-overload]
        return run.lease.token if run is not None else 0

    def _strike(self, fault: ProcessFault) -> None:
        world = self.world
        if fault.act == "database":
            self.plan.struck += 1
            world.note("fault", "database restarts")
            self.database.restart(fault.seconds)
            return
        process = self.shared.processes[fault.who]
        if process.loop.dead or process.loop.paused or process.stopping:
            return
        self.plan.struck += 1
        world.note("fault", fault.act, process.name, fault.seconds)
        if fault.act == "pause":
            process.loop.paused = True
            process.loop.stops += 1
            world.after(fault.seconds, self._resume, process)
        elif fault.act == "kill":
            self._kill(process, fault.seconds)
        else:
            world.after(0.0, self._drain, process, fault.seconds, loop=process.loop)

    def _resume(self, process: Process) -> None:
        self.world.note("resume", process.name)
        self.world.resume(process.loop)

    def _drain(self, process: Process, seconds: float) -> None:
        def gone(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                self.world.problems.append(f"{process.name} does not drain: {task.exception()!r}")
            self._kill(process, seconds)

        process.loop.create_task(process.drain()).add_done_callback(gone)

    def _kill(self, process: Process, seconds: float) -> None:
        process.loop.kill()
        self.world.after(seconds, self._restart, process)

    def _restart(self, process: Process) -> None:
        number = process.number
        self.lives[number] += 1
        self.buried.append(process)
        self.shared.processes[number] = Process(self.shared, number, self.lives[number])

    def _loading(self) -> None:
        """A run is about to be folded: whoever does so dies of a poisoned one."""
        loop = asyncio.get_running_loop()
        [process] = [one for one in self.shared.processes if one.loop is loop]
        late = self.world.now < process.loop.late_until
        mended = self.database.bad  # who could not write an event reads its run again
        if not late and not mended and all(self._only_waits(run_id) for run_id in self.tables.runs):
            self.world.problems.append("a run was read although nothing of it was due")
        if self.plan.poison:
            self.plan.struck += 1
            self.world.note("fault", "poison", process.name)
            self._kill(process, 0.5)
            raise Killed

    def _only_waits(self, run_id: str) -> bool:
        row = self.tables.runs[run_id]
        if row.moved_at is None or row.moved_at > self.world.time() - _LATELY:
            return False  # it was due when somebody decided to read it
        if any(word[1] == run_id for word in self.tables.inbox.values()):
            return False
        return row.wake_at is not None and row.wake_at > self.world.time() + _SOON

    # The auditor.

    def _changed(self, process: Process, run_id: RunId, last_seq: int) -> None:
        """G2: whenever everything is committed, memory says what the journal says."""
        run = process.worker.runs.get(run_id)
        row = self.tables.runs[run_id]
        if run is None or run.commits or run.state.flights:
            return
        if not run.state.finished and self.world.rng.random() > 0.15:
            return
        if self.tables.shards[row.shard].token != run.lease.token:
            return
        facts = self.tables.journal[run_id]
        events = [codec.decode(fact.payload) for _, fact in sorted(facts.items())]
        if len(events) != run.next_seq - 1:
            self.world.problems.append(f"memory has {run.next_seq - 1} events, the journal {len(events)}")
            return
        found, wanted = known(fold(run_id, self.flows[FlowId(row.flow_id)], events)), known(run.state)
        if found != wanted:
            parts = [key for key in found if found[key] != wanted[key]]
            self.world.problems.append(
                f"{process.name}: memory is not what the journal says: {_differences(found, wanted, parts)}"
            )


def _differences(found: dict[str, Any], wanted: dict[str, Any], parts: list[str]) -> str:
    """Where two states differ, shortly."""
    if parts == ["steps"]:
        steps = [step for step in found["steps"] if found["steps"][step] != wanted["steps"].get(step)]
        pairs = zip(found["steps"][steps[0]], wanted["steps"][steps[0]], strict=True)
        return f"{steps} {[(at, *pair) for at, pair in enumerate(pairs) if pair[0] != pair[1]]}"
    return str(parts)
