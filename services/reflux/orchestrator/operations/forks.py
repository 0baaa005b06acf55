"""Forks and retries: plan what is kept, write it, begin the new run."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import orjson

from reflux.core.errors import InvalidArgument
from reflux.core.flow.model import NodeAction
from reflux.core.flow.variant import variant
from reflux.core.fork import ForkPlan, plan_fork, plan_retry
from reflux.core.names import StepPath
from reflux.core.origin import Operation
from reflux.core.place import step_not_found
from reflux.core.reasons import Reason
from reflux.orchestrator.launcher import StartOnce, check_start
from reflux.orchestrator.operations.derived import Derived
from reflux.orchestrator.operations.former import with_children
from reflux.orchestrator.store.start import find_started

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.core.document import Json, JsonValue
    from reflux.core.flow import Flow
    from reflux.core.names import RunId
    from reflux.core.state import RunState
    from reflux.orchestrator.flows.cache import FlowCache, Resolved
    from reflux.orchestrator.flows.store import FlowStore
    from reflux.orchestrator.journal_reader import JournalReader
    from reflux.orchestrator.launcher import Launcher
    from reflux.orchestrator.mesh_view import MeshView
    from reflux.runtime.postgres import Pool

SAME: Final = "same"
NEWEST: Final = "newest"


@dataclass(frozen=True, slots=True)
class Going:
    """How to go on from a run."""

    run_id: RunId
    from_step: StepPath | None
    """None: from whatever failed."""
    flow_version: str | int = SAME
    versions: Mapping[str, str] = field(default_factory=dict)
    """Node versions by step id."""
    input: Json | None = None
    dry_run: bool = False

    @property
    def operation(self) -> Operation:
        """What it is called."""
        return Operation.RETRY if self.from_step is None else Operation.FORK

    @property
    def digest(self) -> bytes:
        """sha256 of everything that must be equal for the same request_id."""
        said = [
            self.run_id,
            self.from_step,
            self.flow_version,
            sorted(self.versions.items()),
            self.input.raw.decode() if self.input else None,
        ]
        return sha256(orjson.dumps(said)).digest()


@dataclass(frozen=True, slots=True)
class Forked:
    """What came of it."""

    run_id: RunId | None
    """None: it was only planned."""
    first: RunState | None
    """The new run at its beginning; None when an earlier request had made it."""
    plan: ForkPlan | None
    flow_version: int = 0
    changed: frozenset[str] = frozenset()
    """Ids of steps that the flow version to go on with defines in another way."""


class Forks:
    """Makes runs that go on from others. Every method may raise psycopg.Error."""

    def __init__(
        self,
        *,
        pool: Pool,
        flows: FlowCache,
        store: FlowStore,
        reader: JournalReader,
        launcher: Launcher,
        mesh: MeshView,
    ) -> None:
        self._pool = pool
        self._flows = flows
        self._store = store
        self._reader = reader
        self._launcher = launcher
        self._mesh = mesh

    async def go_on(self, going: Going, *, actor: str, request_id: str, traceparent: str) -> Forked:
        """Begins the new run, or with `dry_run` only plans it; durable when this returns.

        Raises:
            NotFound, Refused: what the plan refuses; there is no such run, flow version or node version.
            InvalidArgument: the flow version does not take the input.
            AlreadyExists: the request_id was used for something else.
            Exhausted, Unavailable: nothing was begun; try again.
        """
        once = None
        if request_id and not going.dry_run:
            once = StartOnce(f"{going.operation}:{going.run_id}", request_id, going.digest)
            known = await find_started(self._pool, once.scope, once.key)
            if known is not None and known.body_digest == once.body_digest:
                return Forked(known.run_id, None, None)
        origin = await self._reader.state(going.run_id)
        resolved = await resolve(self._flows, origin, going.flow_version)
        pins = tuple(sorted({**dict(origin.created.pins), **going.versions}.items()))
        check_versions(self._mesh, resolved.flow, going.versions)
        only = origin.created.only_step
        target = _variant(resolved.flow, pins, origin)
        point = going.from_step
        plan = plan_retry(origin, target) if point is None else plan_fork(origin, target, point)
        document = going.input or origin.created.input
        same_input = document == origin.created.input
        plan = await with_children(self._reader, self._flows, plan, target, same_input=same_input)
        changed = await self._changed(origin, resolved)
        begins = plan.begins(going.operation, origin)
        derived = Derived(begins, pins, only, plan.kept, self._pool, origin.created)
        if going.dry_run:
            check_start(resolved, document, derived)
            return Forked(None, None, plan, resolved.version, changed)
        launched = await self._launcher.launch(
            resolved, document, once=once, actor=actor, traceparent=traceparent, derived=derived
        )
        return Forked(launched.run_id, launched.first, plan, resolved.version, changed)

    async def _changed(self, origin: RunState, resolved: Resolved) -> frozenset[str]:
        """Steps of both versions that are not written alike."""
        if resolved.version == origin.created.flow_version:
            return frozenset()
        former = await self._spec(origin.created.flow_id, origin.created.flow_version)
        newer = await self._spec(resolved.flow_id, resolved.version)
        old_flow = await self._flows.get(origin.created.flow_id, origin.created.flow_version)
        return frozenset(
            str(path)
            for path, step in resolved.flow.steps.items()
            if (before := old_flow.steps.get(path)) is not None
            and _at(former, before.pointer) != _at(newer, step.pointer)
        )

    async def _spec(self, flow_id: str, version: int) -> JsonValue:
        stored = await self._store.spec(flow_id, version)  # type: ignore[arg-type]
        assert stored is not None, "it was compiled a moment ago, and versions are never deleted"
        return {"spec": orjson.loads(stored[1])}


async def resolve(flows: FlowCache, origin: RunState, version: str | int) -> Resolved:
    """The flow version with which to go on from a run.

    Raises:
        NotFound: there is no such version, or the flow is deleted and `newest` was asked for.
    """
    created = origin.created
    if version == NEWEST:
        return await flows.resolve(created.flow_id)
    number = created.flow_version if version == SAME else int(version)
    return await flows.at(created.flow_id, number)


def check_versions(mesh: MeshView, flow: Flow, versions: Mapping[str, str]) -> None:
    """Each must be a registered version of the node that the step calls.

    Raises:
        NotFound: STEP_NOT_FOUND, NODE_VERSION_NOT_FOUND, each with the nearest name.
        InvalidArgument: the step calls no node.
        Unavailable: the registry has not been heard yet.
    """
    for name, version in versions.items():
        step = flow.steps.get(StepPath(name))
        if step is None:
            raise step_not_found(name, flow.steps, f"flow {flow.name}")
        if not isinstance(step.action, NodeAction):
            raise InvalidArgument(Reason.ARGUMENT_INVALID, f"versions: step {name} calls no node")
        mesh.check_version(step.action.node, version)


def _variant(flow: Flow, pins: tuple[tuple[str, str], ...], origin: RunState) -> Flow:
    """What the new run will walk.

    Raises:
        NotFound: a step that the origin pins, or consists of, is not in this version.
    """
    only = origin.created.only_step
    for name in (*(name for name, _ in pins), *([only.step] if only else [])):
        if name not in flow.steps:
            raise step_not_found(name, flow.steps, "the flow version to go on with")
    return variant(flow, pins, only)


def _at(document: JsonValue, pointer: str) -> JsonValue:
    """What stands at a JSON pointer, which exists."""
    value = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
    return value
