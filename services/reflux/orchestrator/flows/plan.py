"""What a flow would do in the mesh as it is now: every problem, and how each node step would be called.

A flow may be saved before its nodes are deployed, so these checks are not part of compiling. They use what
the orchestrator itself starts attempts with (`Catalog`), so the plan and the run cannot disagree about
versions and effect classes. Every version is looked at that a call can meet, not only the newest. Of `with`
only what is constant is checked against their input schemas; the nodes check the rest, when it is known. What
is read of an output must not be ruled out by their output schemas.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from reflux.core.contract import missing, refused, uses_of
from reflux.core.effect import EffectClass, Lane, is_weaker, lane_of, weakest
from reflux.core.flow import (
    NodeAction,
    Problem,
    ProblemCode,
    Schema,
    SchemaProblem,
    in_document_order,
    nearest,
    written_out,
)
from reflux.core.flow.durations import format_duration
from reflux.orchestrator.credentials import explain, misplaced
from reflux.orchestrator.dispatch import DEFAULT_ATTEMPT
from reflux.orchestrator.mesh_view import Reach, longest_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reflux.core.contract import NodeUse
    from reflux.core.document import JsonValue
    from reflux.core.errors import Violation
    from reflux.core.flow import CompileResult, Step
    from reflux.core.names import StepPath
    from reflux.orchestrator.mesh_view import RouteView, VersionView

BY_INPUT: Final = "by input"
"""Stands for an effect class, or a lane, that only the input of a call decides."""


class Catalog(Protocol):
    """What is known of the mesh; `MeshView` is the real one."""

    def nodes(self) -> Sequence[str]:
        """Names of the registered nodes."""
        ...

    def versions(self, node: str) -> Mapping[str, VersionView]:
        """The registered versions of a node, by version; empty for an unknown node."""
        ...

    def route(self, node: str) -> RouteView | None:
        """The route of a node, or None."""
        ...

    def reach(self, node: str, pin: str | None) -> Reach:
        """The versions that a call can meet."""
        ...

    async def input_schema(self, node: str, version: str) -> dict[str, JsonValue] | None:
        """The JSON Schema of a version's input, or None."""
        ...

    async def output_schema(self, node: str, version: str) -> dict[str, JsonValue] | None:
        """The JSON Schema of a version's output, or None."""
        ...


@dataclass(frozen=True, slots=True)
class PlannedVersion:
    """A version that could answer a step."""

    version: str
    weight: int
    """Share of the calls in basis points; 0 when it is reached by fallback only."""
    endpoints: int
    slots: tuple[str, ...] = ()
    """Where it takes credentials."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """How a node step would be called."""

    step: StepPath
    node: str
    versions: tuple[PlannedVersion, ...]
    effect: str
    """An effect class, or `BY_INPUT`."""
    lane: str
    """A lane, or `BY_INPUT`."""
    needs: tuple[StepPath, ...]
    credentials: tuple[tuple[str, str], ...] = ()
    """Names of credentials, each after that of its slot."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a document would do."""

    problems: tuple[Problem, ...]
    """In document order, those of compiling included."""
    steps: tuple[PlannedStep, ...]
    """The node steps that could be read, in document order."""


async def plan_flow(
    document: JsonValue, result: CompileResult, catalog: Catalog, others: Sequence[Problem] = ()
) -> Plan:
    """Resolve the compiled `document` in the mesh; `others` are problems that are known already."""
    uses = {use.step: use for use in uses_of(result)}
    planner = _Planner(result.inputs, uses, catalog)
    steps = []
    for step in result.calls:
        steps.append(await planner.plan(step))
        await asyncio.sleep(0)  # thousands of steps take long together, and runs go on meanwhile
    return Plan(in_document_order(document, [*result.problems, *planner.problems, *others]), tuple(steps))


@dataclass(slots=True)
class _Planner:
    inputs: Mapping[StepPath, JsonValue]
    uses: Mapping[str, NodeUse]
    catalog: Catalog
    problems: list[Problem] = field(default_factory=list)
    _schemas: dict[tuple[str, str], Schema | None] = field(default_factory=dict)
    _outputs: dict[tuple[str, str], JsonValue] = field(default_factory=dict)

    async def plan(self, step: Step) -> PlannedStep:
        action = step.action
        assert isinstance(action, NodeAction), "calls are node steps"
        reach = self._reach(step, action)
        route = self.catalog.route(action.node)
        shares = {target.version: target.weight for target in route.targets} if route else {}
        if action.version is not None:
            shares = {action.version: 10_000}
        elif step.route is not None and step.route.versions:
            shares = dict(step.route.versions)
        self._resolve(step, action, reach)
        self._check_way(step, action, reach)
        await self._check_input(step, action, reach)
        await self._check_output(step, action, reach)
        effect, lane = _effect(action, reach)
        if step.effect is not None:
            self._check_effect(step, step.effect, effect)
            effect, lane = step.effect, lane_of(step.effect)
        if step.cache is not None and effect not in (BY_INPUT, EffectClass.PURE):
            message = f"only a pure call may be answered from a cache, and this one is {effect}"
            where = f"{step.pointer}/cache"
            self.problems.append(Problem(ProblemCode.CACHE_NOT_PURE, where, message, "remove cache"))
        self._check_credentials(step, action, reach)
        versions = (
            PlannedVersion(
                each.version, shares.get(each.version, 0), each.endpoints, tuple(filter(None, each.slots))
            )
            for each in reach.versions
        )
        return PlannedStep(
            step.path, action.node, tuple(versions), effect, lane, step.after, step.credentials
        )

    def _reach(self, step: Step, action: NodeAction) -> Reach:
        """What the calls can meet: of a step with a way of its own, those that it names and no others."""
        route = step.route
        if route is None or (not route.versions and route.fallback is None):
            return self.catalog.reach(action.node, action.version)
        known, usual = self.catalog.versions(action.node), self.catalog.route(action.node)
        if action.version is not None:
            first = [action.version]
        elif route.versions:
            first = [version for version, share in route.versions if share]
        else:
            first = [target.version for target in (usual.targets if usual else ()) if target.weight]
        named = dict.fromkeys((*first, *((route.fallback or ()) if first else ())))
        met = tuple(known[version] for version in named if version in known)
        return Reach(met, longest_attempt(met))

    def _resolve(self, step: Step, action: NodeAction, reach: Reach) -> None:
        """Record a node that is not there, a pinned version that is not, or a route that leads nowhere."""
        node, version, where = action.node, action.version, f"{step.pointer}/node"
        if step.route is not None and step.route.pin is not None:
            where = f"{step.pointer}/route/pin"
        known = self.catalog.versions(node)
        if not known:
            message = f"no node {node} is registered"
            hint = nearest(node, self.catalog.nodes())
            self.problems.append(Problem(ProblemCode.UNKNOWN_NODE, where, message, hint))
        elif version is not None and version not in known:
            message = f"node {node} has no version {version}"
            hint = nearest(version, tuple(known))
            self.problems.append(Problem(ProblemCode.UNKNOWN_VERSION, where, message, hint))
        elif step.route is not None and step.route.versions:
            for one, _ in step.route.versions:
                if one not in known:
                    message, hint = f"node {node} has no version {one}", nearest(one, tuple(known))
                    where = f"{step.pointer}/route/versions/{one}"
                    self.problems.append(Problem(ProblemCode.UNKNOWN_VERSION, where, message, hint))
        elif not reach.versions:
            message = f"no version of {node} gets traffic"
            hint = f"give one a weight in its route, or pin one: {node}@{next(iter(known))}"
            self.problems.append(Problem(ProblemCode.NO_ROUTE, where, message, hint))

    def _check_way(self, step: Step, action: NodeAction, reach: Reach) -> None:
        """Record a fallback that is not there, and a try that is given more time than the whole attempt."""
        route, known = step.route, self.catalog.versions(action.node)
        if route is None or not known:
            return
        for place, version in enumerate(route.fallback or ()):
            if version not in known:
                message = f"node {action.node} has no version {version}"
                where = f"{step.pointer}/route/fallback/{place}"
                hint = nearest(version, tuple(known))
                self.problems.append(Problem(ProblemCode.UNKNOWN_VERSION, where, message, hint))
        limit = reach.attempt_timeout or DEFAULT_ATTEMPT
        if route.try_timeout is None or step.timeout.attempt is not None or route.try_timeout < limit:
            return
        message = f"a try of {format_duration(route.try_timeout)} is not shorter than the attempt"
        hint = f"make it less than {format_duration(limit)}, or give the step a longer timeout.attempt"
        where = f"{step.pointer}/route/try_timeout"
        self.problems.append(Problem(ProblemCode.BAD_VALUE, where, message, hint))

    def _check_effect(self, step: Step, declared: EffectClass, found: str) -> None:
        """Record a class that allows less than the node's own: it would only cost tries."""
        if found == BY_INPUT or not is_weaker(declared, EffectClass(found)):
            return
        message = f"{declared} is weaker than what the call is: {found}"
        hint = "remove effect, or declare a class that allows more"
        self.problems.append(Problem(ProblemCode.EFFECT_WEAKER, f"{step.pointer}/effect", message, hint))

    def _check_credentials(self, step: Step, action: NodeAction, reach: Reach) -> None:
        """Record a slot that nobody whom the calls can meet has, and a version without the default one."""
        where = f"{step.pointer}/credentials"
        for slot in misplaced(step.credentials, reach.versions) if reach.versions else ():
            message = explain(slot, action.node, reach.versions)
            at = f"{where}/{slot}" if slot else where
            self.problems.append(Problem(ProblemCode.UNKNOWN_CREDENTIAL, at, message))

    async def _check_input(self, step: Step, action: NodeAction, reach: Reach) -> None:
        """Record what in `with` fits none, or not all, of the versions, whatever the templates give."""
        given = self.inputs.get(step.path)
        at = step.pointer if given is None else f"{step.pointer}/with"
        value: JsonValue = {} if given is None else given
        misfits: dict[Violation, list[str]] = {}
        for version in reach.versions:
            schema = await self._schema(action.node, version.version)
            for violation in refused(schema, value, at) if schema else ():
                misfits.setdefault(violation, []).append(version.version)
        for violation, versions in misfits.items():
            hint = f"the input of {action.node}@{', '.join(versions)}"
            self.problems.append(
                Problem(ProblemCode.INPUT_INVALID, violation.pointer, violation.message, hint)
            )

    async def _check_output(self, step: Step, action: NodeAction, reach: Reach) -> None:
        """Record what is read of the output, and what none, or not all, of the versions can give."""
        use = self.uses.get(step.path)
        lacks: dict[tuple[str, str], list[str]] = {}
        for version in reach.versions if use is not None and use.reads else ():
            tree = await self._output(action.node, version.version)
            for read in use.reads if use is not None else ():
                if what := missing(read, tree):
                    lacks.setdefault((read.pointer, what), []).append(version.version)
        for (pointer, what), versions in lacks.items():
            message = f"{what.removeprefix('output.')} is not in the output of {step.path}"
            hint = f"the output of {action.node}@{', '.join(versions)}: read what is there, or with .? or ??"
            self.problems.append(Problem(ProblemCode.OUTPUT_UNKNOWN, pointer, message, hint))

    async def _schema(self, node: str, version: str) -> Schema | None:
        key = (node, version)
        if key not in self._schemas:
            source = await self.catalog.input_schema(node, version)
            try:
                self._schemas[key] = None if source is None else Schema.compile(source, lenient=True)
            except SchemaProblem:  # the node's own matter: it checks its input itself
                self._schemas[key] = None
        return self._schemas[key]

    async def _output(self, node: str, version: str) -> JsonValue:
        """What a version's output schema says, as a tree; True without one, for that says nothing."""
        key = (node, version)
        if key not in self._outputs:
            source = await self.catalog.output_schema(node, version)
            self._outputs[key] = True if source is None else _tree(source)
        return self._outputs[key]


def _effect(action: NodeAction, reach: Reach) -> tuple[str, str]:
    """Effect class and lane of a call, as far as they are known before its input is."""
    if action.with_.is_constant:
        effect = reach.effect_of(action.with_.evaluate({}))
        return effect, lane_of(effect)
    fixed = [version.effect for version in reach.versions if isinstance(version.effect, EffectClass)]
    if len(fixed) == len(reach.versions):
        return weakest(fixed), lane_of(weakest(fixed))
    safe_anyway = any(lane_of(effect) is Lane.SAFE for effect in fixed)
    return BY_INPUT, Lane.SAFE if safe_anyway else BY_INPUT


def _tree(source: JsonValue) -> JsonValue:
    try:
        return written_out(source)
    except SchemaProblem:  # the node's own matter
        return True
