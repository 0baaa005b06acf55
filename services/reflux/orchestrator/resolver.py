"""Asks node versions about effects of which nobody knows, and says what they can be asked.

A question is asked once its event is durable; what comes back becomes an event of the run. When it is to be
asked, and what follows, is `reflux.core.resolving`.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeVar

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.core import event as ev
from reflux.core.command import AskEffect
from reflux.core.document import MAX_DOCUMENT_BYTES, Json, TooDeep, write
from reflux.core.effect import Lane
from reflux.core.event import Knowledge, Question
from reflux.core.flow.model import NodeAction
from reflux.core.names import RunId, StepPath
from reflux.core.resolving import Abilities, Answer, answered, first_sent, version_of
from reflux.core.route import idempotency_key
from reflux.core.state import RunState, StepRun
from reflux.orchestrator.mesh_view import MeshView
from reflux.orchestrator.sending import Sent
from reflux.orchestrator.tracing import Tracer
from reflux.runtime import rpc
from reflux.runtime.clock import Clock

ASK_SECONDS: Final = 10.0
"""How long an answer is waited for."""

_KNOWN: Final = {
    pb.EffectKnowledge.FOUND: Knowledge.FOUND,
    pb.EffectKnowledge.VOIDED: Knowledge.VOIDED,
}


class HasState(Protocol):
    """A run in memory; compared by identity."""

    state: RunState
    calls: dict[StepPath, Sent]


RunT = TypeVar("RunT", bound=HasState)


def abilities_of(mesh: MeshView, run: StepRun, version: str) -> Abilities:
    """What a version of the step's node can be asked, and who may take over from it."""
    action = run.step.action
    assert isinstance(action, NodeAction)
    view = mesh.versions(action.node).get(version)
    return Abilities(
        verifiable=view is not None and view.verifiable,
        cancelable=view is not None and view.cancelable,
        successors=mesh.successors(action.node, version),
        chain=chain_of(mesh, run, version),
    )


def chain_of(mesh: MeshView, run: StepRun, version: str) -> tuple[str, ...]:
    """Who is asked after a version by a step that walks its chain itself, in order; registered ones only.

    The step's own fallback. Else, when it names no version, that of the target which the route was asked for
    in this round: the chain of a version in it is not followed.
    """
    action, route = run.step.action, run.step.route
    if not isinstance(action, NodeAction) or route is None or not route.drawn:
        return ()
    known, others = mesh.versions(action.node), route.fallback
    if others is None:
        named = route.versions or action.version is not None
        others = () if named else mesh.chain(action.node, run.tried[0] if run.tried else version)
    return tuple(name for name in others if name in known)


def abilities_after(
    mesh: MeshView, run: StepRun, assignment: ev.Assignment, claim: ev.EffectClaimed | None
) -> Abilities:
    """The same of the version whose outcome an attempt is: of the claimer where an effect is unknown."""
    last = run.unresolved
    claimed = claim.node_version.rpartition("@")[2] if claim is not None else ""
    return abilities_of(mesh, run, version_of(last.assignment) if last else claimed or version_of(assignment))


class Resolver:
    """Asks, in tasks of the worker.

    Args:
        tasks: what owns the calls.
        channel: to the mesh.
        mesh: what versions can be asked.
        clock: the database's.
        tracer: of the orchestrator, when it traces.
    """

    def __init__(
        self,
        *,
        tasks: asyncio.TaskGroup,
        channel: grpc.aio.Channel,
        mesh: MeshView,
        clock: Clock,
        tracer: Tracer | None = None,
    ) -> None:
        self._tasks = tasks
        self._channel = channel
        self._mesh = mesh
        self._clock = clock
        self._tracer = tracer

    def ask(
        self,
        run: RunT,
        commands: Sequence[AskEffect],
        walk: Callable[[RunT, Iterable[ev.Event]], object],
        future: asyncio.Future[Any],
    ) -> None:
        """Asks what has become durable, unless nobody wants to know any more; `walk` is told the answer."""
        if future.cancelled() or future.exception() is not None:
            return
        for command in commands:
            path = command.asked.step
            if run.state.steps[path].asking is command.asked:
                run.calls[path] = self._tasks.create_task(self._ask(run, command, walk))

    async def _ask(
        self, run: RunT, command: AskEffect, walk: Callable[[RunT, Iterable[ev.Event]], object]
    ) -> None:
        path, asked = command.asked.step, command.asked
        step = run.state.steps[path]
        answer = await self._answer(run.state.id, command, _effect(run.state.id, command, step))
        if run.state.steps[path].asking is not asked:
            return
        run.calls.pop(path, None)
        abilities = abilities_of(self._mesh, step, asked.node_version.rpartition("@")[2])
        walk(run, [answered(run.state, path, answer, abilities, self._clock.now())])

    async def _answer(self, run_id: RunId, command: AskEffect, effect: pb.ClaimedEffect) -> Answer:
        asked = command.asked
        version = asked.node_version.rpartition("@")[2]
        view = self._mesh.versions(command.node).get(version)
        cancels = asked.question is Question.CANCEL
        if view is None or not (view.cancelable if cancels else view.verifiable):
            what = "undo an effect by its key" if cancels else "say what became of an effect"
            return Answer(Knowledge.UNKNOWN, f"{asked.node_version} cannot {what}", answered=False)
        lane = Lane.SAFE if cancels else Lane.BROAD
        metadata: tuple[tuple[str, str], ...] = (
            ("x-reflux-node", command.node),
            ("x-reflux-version", version),
            ("x-reflux-lane", lane.value),
            ("x-reflux-draw", "0"),
            ("x-reflux-run-id", run_id),
            ("x-reflux-step", asked.step),
            ("x-reflux-attempt", str(asked.attempt)),
            ("x-reflux-effect", "pure"),
        )
        traceparent = self._tracer.questioning(run_id, asked) if self._tracer is not None else None
        if traceparent is not None:
            metadata = (*metadata, ("traceparent", traceparent))
        stub: Any = NodeServiceStub(self._channel)
        try:
            if cancels:
                told = await stub.Cancel(
                    pb.CancelRequest(effect=effect), metadata=metadata, timeout=ASK_SECONDS
                )
            else:
                told = await stub.Verify(
                    pb.VerifyRequest(effect=effect), metadata=metadata, timeout=ASK_SECONDS
                )
        except grpc.aio.AioRpcError as error:
            report = rpc.read(error)
            return Answer(Knowledge.UNKNOWN, f"{report.code.name}: {report.message}", answered=False)
        return _read(told.knowledge)


def _read(told: pb.EffectKnowledge) -> Answer:
    known = _KNOWN.get(told.state, Knowledge.UNKNOWN)
    if known is not Knowledge.FOUND:
        return Answer(known, told.detail)
    output = Json(told.output)
    try:
        write(output.value)  # read once here, used by every expression later
    except TooDeep:
        return Answer(Knowledge.UNKNOWN, "what was found nests too deep to be kept", answered=False)
    except ValueError as error:
        return Answer(Knowledge.UNKNOWN, f"what was found is not JSON: {error}", answered=False)
    if len(output.raw) > MAX_DOCUMENT_BYTES:
        return Answer(Knowledge.UNKNOWN, "what was found is too large to be kept", answered=False)
    return Answer(known, told.detail, output)


def _effect(run_id: RunId, command: AskEffect, step: StepRun) -> pb.ClaimedEffect:
    path, claim = command.asked.step, next(reversed(step.claims.values()), None)
    made = pb.ClaimedEffect(
        idempotency_key=idempotency_key(run_id, path, step.generation),
        scope=claim.scope if claim else "",
        execution_id=claim.execution_id if claim else "",
        input=command.input.raw,
        credentials=dict(command.credentials),
    )
    made.start_time.FromDatetime(first_sent(step))
    return made
