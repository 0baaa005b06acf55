"""Carries out what the core asks for about other runs: begins children, recalls them, tells their parents.

A child lives in its parent's shard, under the same lease: so one owner has both, and a word between them can
be written in the statement that records what it says (`tells`). Such words are `recall` to a child without
which its parent goes on, `cancel` to one whose parent was cancelled or terminated, and `child` to a parent
whose child has finished.

A request is carried out once its event is committed, and again by whoever reads a run that has one open. The
id of the child is part of the request, so a second try finds the run that the first one began. What stands in
the way for a while (no room, no database) is tried again as long as the run is here; what will not change
(no such flow, an input that does not fit, a limit that refuses) is the end of the step.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
import psycopg

from reflux.core import children
from reflux.core import event as ev
from reflux.core.command import StartChild
from reflux.core.document import Json
from reflux.core.errors import Defect, RefluxError, TryLater
from reflux.core.event import RunPhase
from reflux.core.flow.model import FlowAction
from reflux.core.former import given_digest
from reflux.core.left import NOTHING_LEFT, Left
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.core.state import ROOT, RunState
from reflux.core.word import Cancel, Recall, WordId
from reflux.orchestrator import codec, metrics
from reflux.orchestrator.faulting import marked
from reflux.orchestrator.fields import left
from reflux.orchestrator.flows.cache import FlowCache, Resolved
from reflux.orchestrator.flows.inputs import check_input, claim
from reflux.orchestrator.journal_reader import JournalReader
from reflux.orchestrator.operations.derived import Derived, first_state, row_of
from reflux.orchestrator.operations.former import Former, former_child
from reflux.orchestrator.store import inbox, runs
from reflux.orchestrator.store.errors import LeaseLost, ShardLost, Stopped
from reflux.orchestrator.store.journal import Recorded, RunUpdate, Tell
from reflux.orchestrator.store.start import Starter, StartRequest
from reflux.orchestrator.store.wakeups import Word
from reflux.orchestrator.words import stored
from reflux.runtime import logs, rpc
from reflux.runtime.clock import Clock
from reflux.runtime.postgres import Pool

if TYPE_CHECKING:
    from reflux.orchestrator.active_run import ActiveRun
    from reflux.orchestrator.worker import Worker

FINISHED: Final = "child"
"""Kind of the word that a child has finished; its payload is that of `_finished`."""
FIRST_PAUSE: Final = 0.05
_ALL: Final = StepPath("*")
"""Stands for all steps of a run."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between two tries to begin a child."""
REFUSALS: Final = frozenset({Reason.CONCURRENCY_LIMIT, Reason.RATE_LIMIT})
"""What a flow says that rather refuses a run than lets it wait: the step has its answer."""

log = logs.get_logger("children")


@dataclass(frozen=True, slots=True)
class _Begun:
    """A child that is durable."""

    flow_name: str
    flow_version: int
    first: "ActiveRun | None" = None
    """To be walked here; None when it is not new, and so somebody has it or will find it."""


class Children:
    """Begins children of the worker's runs. `run` must be running."""

    def __init__(
        self, *, pool: Pool, reader: JournalReader, flows: FlowCache, starter: Starter, clock: Clock
    ) -> None:
        self._pool = pool
        self._reader = reader
        self._flows = flows
        self._starter = starter
        self._clock = clock
        self._worker: Worker | None = None
        self._look: Callable[[], None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[tuple[RunId, StepPath], asyncio.Task[None]] = {}

    def serve(self, worker: "Worker", look: Callable[[], None]) -> None:
        """The worker whose runs these are; `look` has words read that were left for one of them."""
        self._worker = worker
        self._look = look

    async def run(self) -> None:
        """Owns the starts in hand until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await asyncio.get_running_loop().create_future()

    def begin(self, run: "ActiveRun", paths: Iterable[StepPath]) -> None:
        """Carries out the requests of these steps; they are committed."""
        for path in paths:
            key = (run.id, path)
            if self._group is None or key in self._tasks or path not in run.state.unstarted:
                continue
            task = self._tasks[key] = self._group.create_task(self._carry_out(run, path))
            task.add_done_callback(partial(self._over, key, run))

    def look_after(self, run: "ActiveRun") -> None:
        """Hears of children that have finished without a word: one that could not be read has none to say."""
        key = (run.id, _ALL)
        if run.state.child_runs and self._group is not None and key not in self._tasks:
            task = self._tasks[key] = self._group.create_task(self._look_after(run))
            task.add_done_callback(partial(self._over, key, run))

    async def _look_after(self, run: "ActiveRun") -> None:
        """Says what was not said; the run may have left memory meanwhile, so it is said like any word."""
        paths = {child: path for path, child in run.state.child_runs.items()}
        try:
            for child in await runs.finished_among(self._pool, list(paths)):
                row = await runs.get(self._pool, child)
                if row is None:
                    continue
                output = None
                if row.state is RunPhase.SUCCEEDED:
                    ended = (await self._reader.state(child)).finished
                    output = ended.output if ended is not None else None
                said = _finished(child, paths[child], row.state, output, row.failure)
                await inbox.put(self._pool, run.id, FINISHED, said)
            if self._look is not None:
                self._look()
        except (RefluxError, psycopg.Error, OSError, TimeoutError) as error:
            log.warning("children_not_looked_after", run_id=run.id, error=str(error))

    def _over(self, key: tuple[RunId, StepPath], run: "ActiveRun", task: asyncio.Task[None]) -> None:
        """What was done for a run that was read again meanwhile is still to be done for the one read."""
        del self._tasks[key]
        again = None if self._worker is None else self._worker.runs.get(run.id)
        if again is None or again is run or task.cancelled():
            return
        if key[1] == _ALL:
            self.look_after(again)
        else:
            self.begin(again, [key[1]])

    def committed(
        self, run: "ActiveRun", events: Sequence[ev.Event], future: asyncio.Future[Recorded]
    ) -> None:
        """These events are durable, unless the commit has failed: what they ask for may be done."""
        if future.cancelled() or future.exception() is not None:
            return
        self.begin(run, [event.step for event in events if isinstance(event, ev.ChildRequested)])
        if self._look is not None and tells(run.state, events):
            self._look()

    def _has(self, run: "ActiveRun", path: StepPath) -> bool:
        worker = self._worker
        here = worker is not None and not worker.draining and worker.runs.get(run.id) is run
        return here and run.state.finished is None and path in run.state.unstarted

    async def _carry_out(self, run: "ActiveRun", path: StepPath) -> None:
        """Until the child is durable, or never will be, or the run is not here any more.

        Nobody here reads the child meanwhile, see `Launcher.launch`.
        """
        worker = self._worker
        if worker is None or not self._has(run, path):
            return
        child = run.state.unstarted[path].run_id
        worker.launching.add(child)
        try:
            await self._until_begun(run, path)
        finally:
            worker.launching.discard(child)

    async def _until_begun(self, run: "ActiveRun", path: StepPath) -> None:
        pause = FIRST_PAUSE
        while self._has(run, path):
            try:
                found = await self._begin_or_find(run, path)
            except (ShardLost, LeaseLost, Stopped):
                return
            except Exception as error:  # noqa: BLE001 - of whatever kind, it fails the step and not its run
                if _passes(error):
                    log.debug("child_deferred", run_id=run.id, step=path, error=str(error))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    continue
                found = _failure(error, path)
            if self._has(run, path):
                self._settle(run, path, found)
            return

    def _settle(self, run: "ActiveRun", path: StepPath, found: "_Begun | ev.Failure | None") -> None:
        worker, now = self._worker, self._clock.now()
        assert worker is not None, "there is a worker, since it has the run"
        if not isinstance(found, _Begun):
            worker.walk(run, children.refused(run.state, path, found, now))
            return
        events = children.started(
            run.state, path, flow_name=found.flow_name, flow_version=found.flow_version, now=now
        )
        worker.walk(run, events)
        first = found.first
        if first is not None and first.id not in worker.runs and not worker.draining and not worker.full():
            worker.add(first)

    async def _begin_or_find(self, run: "ActiveRun", path: StepPath) -> "_Begun | ev.Failure | None":
        """The child; or None when it has not begun and nobody wants it any more.

        Raises:
            RefluxError: it cannot begin, now or ever.
            psycopg.Error: the database is away.
        """
        command = children.again(run.state, path)
        if children.unwanted(run.state, path):
            return await self._find(command.requested.run_id)
        try:
            return await self._begin(run, path, command)
        except Exception as error:
            # A former owner may have begun it, when nothing stood in its way; what does now may be itself.
            found = None if _passes(error) else await self._find(command.requested.run_id)
            if found is None:
                raise
            return found

    async def _begin(self, run: "ActiveRun", path: StepPath, command: StartChild) -> "_Begun":
        """Makes the child durable.

        Raises:
            RefluxError, psycopg.Error: as `_begin_or_find`; RowRefused also when it is there already.
        """
        former = await self._former(run.state, path)
        if former is not None and (begun := await self._find(command.requested.run_id)) is not None:
            return begun  # and its journal goes on by now
        flow = former.flow if former is not None else await self._flow(command)
        check_input(flow, command.input)
        asked = claim(flow, command.input)
        created = _created(run.state, path, flow, command, now=self._clock.now(), priority=asked.priority)
        derived = None
        if former is not None:
            derived = Derived(former.origin, kept=former.plan.kept, pool=self._pool)
            created = derived.created(created)
            await derived.write(command.requested.run_id)
        request = StartRequest(
            lease=run.lease,
            run_id=command.requested.run_id,
            flow_id=flow.flow_id,
            flow_name=flow.name,
            flow_version=flow.version,
            actor=created.actor,
            created_at=command.requested.time,
            payload=codec.encode(created),
            claim=asked,
            queued_tail=codec.QUEUED_TAIL,
            **row_of(flow.flow, created),
        )
        started = await self._starter.start(request)
        metrics.started(created=True)
        if started.queued:  # who admits it leaves a word
            return _Begun(flow.name, flow.version)
        return _Begun(flow.name, flow.version, _active(run, request.run_id, flow, created, derived))

    async def _former(self, state: RunState, path: StepPath) -> Former | None:
        """The child that this one goes on from, if there is one and it was given the same.

        Raises:
            NotFound, Refused, psycopg.Error: as `former_child`.
        """
        origin = state.created.origin
        former = origin.children.get(path) if origin is not None else None
        if former is None:
            return None
        action = state.steps[path].step.action
        assert isinstance(action, FlowAction), f"{path} begins no run"
        if given_digest(state, path, action) != former.given:
            return None
        return await former_child(self._reader, self._flows, former.run_id, path, action)

    async def _find(self, run_id: RunId) -> _Begun | None:
        row = await runs.get(self._pool, run_id)
        return None if row is None else _Begun(row.flow_name, row.flow_version)

    async def _flow(self, command: StartChild) -> Resolved:
        """The flow that is asked for, in the version that is.

        Raises:
            NotFound: there is none.
            Defect: what was saved cannot be compiled any more.
        """
        requested = command.requested
        current = await self._flows.resolve(requested.flow)
        return current if not requested.version else await self._flows.at(current.flow_id, requested.version)


def _active(
    run: "ActiveRun", run_id: RunId, flow: Resolved, created: ev.RunCreated, derived: Derived | None
) -> "ActiveRun":
    shown = RunUpdate(RunPhase.RUNNING, wake_at=created.time, progressed=False)
    kept = len(derived.kept) if derived is not None else 0
    return type(run)(first_state(run_id, flow.flow, created, derived), run.lease, 2 + kept, shown)


def _created(
    state: RunState, path: StepPath, flow: Resolved, command: StartChild, *, now: datetime, priority: int
) -> ev.RunCreated:
    parent = state.created
    created = ev.RunCreated(
        flow.flow_id,
        flow.name,
        flow.version,
        command.input,
        parent.actor,
        now,
        parent_run=state.id,
        parent_step=path,
        depth=parent.depth + 1,
        priority=priority,
        failure_of=state.id if path == ROOT else parent.failure_of,
    )
    return marked(created, parent)


def _passes(error: Exception) -> bool:
    """Whether something stands in the way for a while; anything else is an answer."""
    if isinstance(error, RefluxError) and error.reason in REFUSALS:
        return False
    return isinstance(error, TryLater | psycopg.Error | OSError | TimeoutError)


def _failure(error: Exception, path: StepPath) -> ev.Failure:
    """Why a child cannot begin, as the failure of its step."""
    if isinstance(error, RefluxError) and not isinstance(error, Defect):
        code = next(code for kind, code in rpc.CODES.items() if isinstance(error, kind)).name
        return ev.Failure(code, error.reason, error.message, step=path)
    log.error("child_refused", step=path, error=f"{type(error).__name__}: {error}")
    return ev.Failure("INTERNAL", Reason.INTERNAL, f"its run could not be begun: {error}", step=path)


def concerns(events: Iterable[ev.Event]) -> bool:
    """Whether other runs are concerned by what happened to one."""
    return any(isinstance(event, ev.ChildRequested | ev.ChildRecalled | ev.RunFinished) for event in events)


def tells(state: RunState, events: Sequence[ev.Event]) -> list[Tell]:
    """The words that these events of a run say to others; written with them or not at all."""
    said: list[Tell] = []
    for event in events:
        match event:
            case ev.ChildRecalled():
                kind = Cancel if state.canceled else Recall
                said.append(_end(kind, event.run_id, state, event.reason))
            case ev.RunFinished():
                reason = f"run {state.id} has ended without it"
                said += [_end(Cancel, child, state, reason) for child in _left_behind(state)]
                said += tell_parent(state.id, state.created, event)
            case _:
                pass
    return said


def _left_behind(state: RunState) -> list[RunId]:
    """Children that a run which ends at once waited for, also those that may be about to begin.

    A word to one that has not begun waits for it for a while (`find_due`).
    """
    detached = {path for path, asked in state.unstarted.items() if asked.detached}
    return [child for path, child in state.child_runs.items() if path not in detached]


def tell_parent(run_id: RunId, created: ev.RunCreated, ended: ev.RunFinished) -> list[Tell]:
    """The word that a child has finished, if it is one that somebody waits for."""
    if not (created.parent_run and created.parent_step):
        return []
    word = _finished(
        run_id,
        created.parent_step,
        ended.state,
        ended.output,
        ended.failure,
        behind=Left(ended.unresolved_effects, ended.uncompensated),
    )
    return [Tell(RunId(created.parent_run), FINISHED, word)]


def _end(kind: type[Cancel | Recall], run_id: RunId, state: RunState, reason: str) -> Tell:
    actor = state.cancel.actor if state.cancel is not None else state.created.actor
    return Tell(run_id, *stored.encode(kind(WordId(""), actor, reason)))


def _finished(
    run_id: RunId,
    step: str,
    phase: RunPhase,
    output: Json | None,
    failure: ev.Failure | None,
    *,
    behind: Left = NOTHING_LEFT,
) -> bytes:
    said: dict[str, Any] = {"run_id": run_id, "step": step, "state": phase.value, "failure": None}
    said |= {"unresolved": behind.unresolved, "uncompensated": behind.uncompensated}
    if failure is not None:
        said["failure"] = {
            "code": failure.code,
            "reason": str(failure.reason),
            "message": failure.message,
            "retryable": failure.retryable,
            "step": failure.step,
        }
    # The output goes as it is, behind the line, so that its numbers keep their digits.
    return orjson.dumps(said) + b"\n" + (output.raw if output is not None else b"null")


def heard(state: RunState, words: Iterable[Word], now: datetime) -> list[ev.Event]:
    """What follows for a run from the words of its children; the same word twice is one."""
    events: dict[str, list[ev.Event]] = {}
    for word in words:
        if word.kind == FINISHED:
            head, _, output = word.payload.partition(b"\n")
            said = orjson.loads(head)
            events[said["step"]] = _hear(state, said, Json(output), now)
    return [event for found in events.values() for event in found]


def _hear(state: RunState, said: Mapping[str, Any], output: Json, now: datetime) -> list[ev.Event]:
    failure = said["failure"]
    return children.finished(
        state,
        StepPath(said["step"]),
        RunId(said["run_id"]),
        RunPhase(said["state"]),
        now,
        output=output,
        failure=ev.Failure(**failure) if failure is not None else None,
        left=left(said.get("unresolved", ()), said.get("uncompensated", ())),  # absent before this release
    )
