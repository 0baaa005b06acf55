"""Executing one step of a flow alone, in a run of its own that is as durable as any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from reflux.core.alone import given_context, given_input, recorded, step_of
from reflux.core.document import Json
from reflux.core.errors import CallerError
from reflux.core.origin import Operation, Origin
from reflux.core.place import step_not_found
from reflux.orchestrator.launcher import StartOnce
from reflux.orchestrator.operations.derived import Derived
from reflux.orchestrator.operations.forks import NEWEST, SAME, check_versions, resolve

if TYPE_CHECKING:
    from reflux.core.names import RunId, StepPath
    from reflux.core.origin import OnlyStep
    from reflux.orchestrator.flows.cache import FlowCache, Resolved
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.launcher import Launched, Launcher
    from reflux.orchestrator.mesh_view import MeshView


@dataclass(frozen=True, slots=True)
class Execution:
    """Which step, and with what."""

    flow: str
    """Id or name; empty when a run says it."""
    run_id: RunId | None
    """The run from which the step takes what it saw there."""
    step: StepPath
    """A path in the run, or the id of a step of the flow."""
    flow_version: str | int
    node_version: str
    input: Json | None
    context: Json | None

    @property
    def digest(self) -> bytes:
        """sha256 of everything that must be equal for the same request_id."""
        said = [self.step, self.flow_version, self.node_version]
        documents = [each.raw.decode() if each else None for each in (self.input, self.context)]
        return sha256(orjson.dumps([*said, *documents])).digest()


class Steps:
    """Executes steps alone. Every method may raise psycopg.Error."""

    def __init__(
        self, *, flows: FlowCache, reader: JournalReader, launcher: Launcher, mesh: MeshView
    ) -> None:
        self._flows = flows
        self._reader = reader
        self._launcher = launcher
        self._mesh = mesh

    async def execute(
        self, execution: Execution, *, actor: str, request_id: str, traceparent: str
    ) -> Launched:
        """Begins the run of the step; it is durable when this returns.

        Raises:
            NotFound: the run, the flow, its version, the step or the node version is not there.
            InvalidArgument, Refused: the step cannot be given what it needs.
            AlreadyExists: the request_id was used for something else.
            Exhausted, Unavailable: nothing was begun; try again.
        """
        once = None
        if request_id:
            whose = execution.run_id or (await self._flows.resolve(execution.flow)).flow_id
            once = StartOnce(f"{Operation.EXECUTE_STEP}:{whose}", request_id, execution.digest)
        try:
            resolved, only, document, derived = await self._prepare(execution)
            pins = {str(only.step): execution.node_version} if execution.node_version else {}
            check_versions(self._mesh, resolved.flow, pins)
        except CallerError as error:
            return await self._launcher.launched_before(once, error)
        return await self._launcher.launch(
            resolved,
            document,
            once=once,
            actor=actor,
            traceparent=traceparent,
            derived=replace(derived, pins=(*pins.items(),), only_step=only),
        )

    async def _prepare(self, execution: Execution) -> tuple[Resolved, OnlyStep, Json, Derived]:
        """The flow, the step with what it is given, the run's input, and where it all comes from."""
        if execution.run_id is None:
            resolved = await self._resolve(execution)
            step = step_of(resolved.flow, execution.step)
            derived = Derived(Origin(Operation.EXECUTE_STEP, "", (execution.step,)))
            if execution.input is not None:
                return resolved, given_input(step, execution.input), Json(b"{}"), derived
            context = execution.context.value if execution.context else {}
            only = given_context(resolved.flow, step, context)
            given = context.get("input", {}) if isinstance(context, dict) else {}
            return resolved, only, Json.of(given), derived
        state = await self._reader.state(execution.run_id)
        path = execution.step
        if path not in state.steps:
            raise step_not_found(path, state.steps, f"run {state.id}")
        resolved = await resolve(self._flows, state, execution.flow_version)
        step = step_of(resolved.flow, path.rpartition("/")[2])
        origin = Origin(Operation.EXECUTE_STEP, state.id, (path,), state.created.flow_version)
        if execution.input is not None:
            only = given_input(step, execution.input)
        elif execution.context is not None:
            only = given_context(resolved.flow, step, execution.context.value)
        else:
            only = recorded(state, resolved.flow, step, path)
        return resolved, only, state.created.input, Derived(origin, former=state.created)

    async def _resolve(self, execution: Execution) -> Resolved:
        current = await self._flows.resolve(execution.flow)
        version = execution.flow_version
        if version in (SAME, NEWEST) or version == current.version:
            return current
        return await self._flows.at(current.flow_id, int(version))
