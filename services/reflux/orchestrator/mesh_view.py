"""What the orchestrator knows of the mesh: node versions from the registry, routes from the control plane.

Both arrive as streams of whole snapshots; the newest of each is kept. When a stream breaks the last snapshot
stays in use, because Envoy goes on serving it too, and the stream is opened again. Nothing is decided on an
empty view: `synced` is set once both have spoken.

The view answers what must be known *before* Envoy picks a version: which versions a call can reach, and so
the weakest effect class it may meet.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import accumulate
from typing import Any, Final, TypeVar

import grpc
import orjson

from reflux.api.node.v1.node_service_pb2 import Effect
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub, RegistryServiceStub
from reflux.api.routing.v1 import routing_service_pb2 as routing_pb
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from reflux.core.document import JsonValue
from reflux.core.effect import EffectClass, weakest
from reflux.core.errors import NotFound, Unavailable
from reflux.core.expression import Expression, ExpressionProblem, compile_expression
from reflux.core.flow.problems import nearest
from reflux.core.reasons import Reason
from reflux.orchestrator.credentials import slots_of
from reflux.runtime import logs, rpc
from reflux.runtime.settings import Address
from reflux.runtime.tasks import forever
from reflux.runtime.tls import Identity, Role

RECONNECT_SECONDS: Final = 0.5
SCHEMA_TIMEOUT_SECONDS: Final = 5.0
BATCH_ITEMS: Final = 256
"""Attempts that one call may carry, whatever a version could take."""
BATCH_SHARE: Final = 4
"""One call carries at most this part, a quarter, of what an endpoint handles at once: there is room for
others, and many attempts still spread over the endpoints."""
MAX_SCHEMAS: Final = 1000
"""Schemas kept, by digest of their version; the oldest goes first."""

_CLASSES: Final = {
    Effect.PURE: EffectClass.PURE,
    Effect.IDEMPOTENT: EffectClass.IDEMPOTENT,
    Effect.AT_MOST_ONCE: EffectClass.AT_MOST_ONCE,
    Effect.COMPENSATABLE: EffectClass.COMPENSATABLE,
}

T = TypeVar("T")

log = logs.get_logger("mesh_view")


@dataclass(frozen=True, slots=True)
class VersionView:
    """One node version as the registry describes it."""

    node: str
    version: str
    digest: str
    effect: EffectClass | Expression
    """A class for every input, or an expression over `input` that gives it."""
    attempt_timeout: timedelta | None
    endpoints: int
    batch: int = 1
    """Attempts that one call may carry."""
    verifiable: bool = False
    """It can say what became of an effect."""
    cancelable: bool = False
    """It can undo an effect by its key."""
    slots: tuple[str, ...] = ()
    """In which it takes credentials; "" stands for its default one."""

    def effect_of(self, value: JsonValue) -> EffectClass:
        """The class of a call with this input; `AT_MOST_ONCE` when its expression does not say."""
        if isinstance(self.effect, EffectClass):
            return self.effect
        try:
            return EffectClass(str(self.effect.evaluate({"input": value})))
        except (ExpressionProblem, ValueError):
            return EffectClass.AT_MOST_ONCE


@dataclass(frozen=True, slots=True)
class TargetView:
    """A version's part in a route."""

    version: str
    weight: int
    """Basis points."""
    fallback: tuple[str, ...]
    tries: int = 1
    """Of this version, before the next one in its chain."""
    shadow: int = 0
    """Basis points of pure calls of which it gets a copy."""


@dataclass(frozen=True, slots=True)
class RouteView:
    """The traffic policy of a node."""

    node: str
    revision: int
    targets: tuple[TargetView, ...]
    sticky: Expression | None = None
    """Over `input`: calls that it gives the same value stay with one version."""
    salt: str = ""
    """Part of every sticky draw."""

    @property
    def reachable(self) -> tuple[str, ...]:
        """Versions that an unpinned call can meet: the targets with weight, and their chains."""
        targets = [target for target in self.targets if target.weight > 0]
        return tuple(dict.fromkeys(name for target in targets for name in (target.version, *target.fallback)))


@dataclass(frozen=True, slots=True)
class Reach:
    """What one call can meet."""

    versions: tuple[VersionView, ...]
    attempt_timeout: timedelta | None
    """The longest of theirs; None when one names none."""
    batch: int = 1
    """Attempts that one call may carry, whichever of them it meets; 1 for none but itself."""
    bounds: tuple[int, ...] = ()
    """Of the route's targets with weight, in order: the first draw that is no longer theirs."""
    targets: tuple[TargetView, ...] = ()
    """Those targets; of a pin the one of its version."""

    sticky: Expression | None = None
    """The route's; None: each attempt draws for itself."""
    salt: str = ""
    """The route's."""
    shadows: tuple[tuple[int, VersionView], ...] = ()
    """Who gets copies of pure calls: the first draw that is no longer theirs, in order."""

    def sticky_of(self, value: JsonValue) -> JsonValue:
        """What a call with this input sticks to, by the route; None for nothing, or when it does not say."""
        if self.sticky is None:
            return None
        try:
            return self.sticky.evaluate({"input": value})
        except ExpressionProblem:
            return None

    def share_of(self, draw: int) -> int:
        """Which of the targets Envoy chooses by this draw: its place among those with weight."""
        return bisect_right(self.bounds, draw)

    def target_of(self, draw: int) -> TargetView | None:
        """The target that Envoy gives this draw to; None when none is known."""
        place = self.share_of(draw) if self.bounds else 0
        return self.targets[place] if place < len(self.targets) else None

    def shadow_of(self, draw: int, value: JsonValue) -> str | None:
        """The version that gets a copy of a pure call with this input, by its own draw; None for nobody.

        A version to which the call would not be pure gets none.
        """
        for bound, version in self.shadows:
            if draw < bound:
                return version.version if version.effect_of(value) is EffectClass.PURE else None
        return None

    def effect_of(self, value: JsonValue) -> EffectClass:
        """The class that holds whichever version Envoy picks."""
        return weakest(version.effect_of(value) for version in self.versions)


@dataclass(slots=True)
class MeshView:
    """The newest snapshots. `follow` keeps them new until it is cancelled."""

    registry: Address
    controlplane: Address
    identity: Identity | None = None
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    _versions: Mapping[str, Mapping[str, VersionView]] | None = None
    _routes: Mapping[str, RouteView] | None = None
    _reach: dict[tuple[str, str | None], Reach] = field(default_factory=dict)
    _schemas: dict[str, dict[str, JsonValue]] = field(default_factory=dict)
    _registry_channel: grpc.aio.Channel | None = None

    async def follow(self) -> None:
        """Follows both streams, through every loss of connection."""
        async with (
            rpc.channel(self.registry, Role.REGISTRY, self.identity) as registry,
            rpc.channel(self.controlplane, Role.CONTROLPLANE, self.identity) as controlplane,
        ):
            self._registry_channel = registry
            catalog: Any = EndpointServiceStub(registry)
            routing: Any = RoutingServiceStub(controlplane)
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    _follow(lambda: catalog.WatchCatalog(registry_pb.WatchCatalogRequest()), self._on_catalog)
                )
                group.create_task(
                    _follow(lambda: routing.WatchRoutes(routing_pb.WatchRoutesRequest()), self._on_routes)
                )

    def nodes(self) -> tuple[str, ...]:
        """Names of the registered nodes.

        Raises:
            Unavailable: the registry has not been heard yet; so for everything below.
        """
        return tuple(_known(self._versions))

    def versions(self, node: str) -> Mapping[str, VersionView]:
        """The registered versions of a node, by version; empty for an unknown node."""
        return _known(self._versions).get(node, {})

    def check_version(self, node: str, version: str) -> None:
        """What a person names must be there.

        Raises:
            NotFound: NODE_VERSION_NOT_FOUND, with the nearest one.
            Unavailable: the registry has not been heard yet.
        """
        known = self.versions(node)
        if version not in known:
            shown, hint = version[:100], nearest(version, known)
            message = f"node {node} has no version {shown!r}" + (f": {hint}" if hint else "")
            metadata = {"node": node, "version": shown}
            raise NotFound(Reason.NODE_VERSION_NOT_FOUND, message, metadata=metadata)

    def route(self, node: str) -> RouteView | None:
        """The route of a node, or None."""
        return _known(self._routes).get(node)

    def successors(self, node: str, version: str) -> tuple[str, ...]:
        """The versions that may take a call over from this one, in order: its chain, then the other targets
        with weight and theirs. Only those that are registered.
        """
        route = self.route(node)
        if route is None:
            return ()
        names = dict.fromkeys((*self.chain(node, version), *route.reachable))
        return tuple(name for name in names if name != version and name in self.versions(node))

    def chain(self, node: str, version: str) -> tuple[str, ...]:
        """The versions that a call which the route gives to this one is tried on next, in order."""
        route = self.route(node)
        targets = route.targets if route is not None else ()
        return next((target.fallback for target in targets if target.version == version), ())

    def reach(self, node: str, pin: str | None) -> Reach:
        """What a call can meet, a pinned one its version alone; without versions when none is known."""
        key = (node, pin)
        if (known := self._reach.get(key)) is not None:
            return known
        versions = self.versions(node)
        route = self.route(node)
        names = (pin,) if pin is not None else route.reachable if route is not None else ()
        met = tuple(versions[name] for name in names if name in versions)
        longest = longest_attempt(met)
        targets = _targets(route, pin)
        weights = [target.weight for target in targets] if pin is None else []
        batch = min((version.batch for version in met), default=1)
        shadows = self._shadows(route, versions) if pin is None and route is not None else ()
        sticky, salt = (route.sticky, route.salt) if route is not None else (None, "")
        reach = Reach(met, longest, batch, tuple(accumulate(weights)), targets, sticky, salt, shadows)
        self._reach[key] = reach
        return reach

    def _shadows(
        self, route: RouteView, versions: Mapping[str, VersionView]
    ) -> tuple[tuple[int, VersionView], ...]:
        bounds = accumulate(target.shadow for target in route.targets)
        both = zip(bounds, route.targets, strict=True)
        return tuple((bound, versions[t.version]) for bound, t in both if t.shadow and t.version in versions)

    async def input_schema(self, node: str, version: str) -> dict[str, JsonValue] | None:
        """The JSON Schema of a version's input; None when the version or the registry is not there."""
        return await self._schema("Input", node, version)

    async def output_schema(self, node: str, version: str) -> dict[str, JsonValue] | None:
        """That of its output, likewise."""
        return await self._schema("Output", node, version)

    async def _schema(self, of: str, node: str, version: str) -> dict[str, JsonValue] | None:
        known = self.versions(node).get(version)
        if known is None or self._registry_channel is None:
            return None
        key = f"{known.digest}/{of}"
        if key not in self._schemas:
            stub: Any = RegistryServiceStub(self._registry_channel)
            request = getattr(registry_pb, f"Get{of}SchemaRequest")(node=node, version=version)
            try:
                body = await getattr(stub, f"Get{of}Schema")(request, timeout=SCHEMA_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                log.warning("schema_unavailable", node=node, version=version, error=str(rpc.to_error(error)))
                return None
            while len(self._schemas) >= MAX_SCHEMAS:
                self._schemas.pop(next(iter(self._schemas)))
            self._schemas[key] = orjson.loads(body.data)
        return self._schemas[key]

    def _on_catalog(self, catalog: registry_pb.Catalog) -> None:
        versions: dict[str, dict[str, VersionView]] = {}
        for each in catalog.versions:
            versions.setdefault(each.node, {})[each.version] = _version(each)
        self._versions = versions
        self._changed()

    def _on_routes(self, routes: routing_pb.WatchRoutesResponse) -> None:
        self._routes = {route.node: _route(route) for route in routes.routes}
        self._changed()

    def _changed(self) -> None:
        self._reach.clear()
        if self._versions is not None and self._routes is not None:
            self.synced.set()


def longest_attempt(versions: Iterable[VersionView]) -> timedelta | None:
    """The longest attempt that these versions name; None when one names none, or there are none."""
    timeouts = [version.attempt_timeout for version in versions]
    return None if None in timeouts else max((t for t in timeouts if t is not None), default=None)


def _targets(route: RouteView | None, pin: str | None) -> tuple[TargetView, ...]:
    """Whom an unpinned call may be given to, or what the route says of a pinned version."""
    targets = route.targets if route is not None else ()
    if pin is None:
        return tuple(target for target in targets if target.weight)
    return tuple(target for target in targets if target.version == pin) or (TargetView(pin, 0, ()),)


def _known(snapshot: Mapping[str, T] | None) -> Mapping[str, T]:
    """An empty view is not the same as no view: nothing may be decided on the latter."""
    if snapshot is None:
        raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator does not know the mesh yet; try again")
    return snapshot


async def _follow(watch: Callable[[], AsyncIterator[Any]], on_snapshot: Callable[[Any], None]) -> None:
    """Hands every snapshot of a stream on, and opens the stream again whenever it ends."""
    for _ in forever():
        try:
            async for snapshot in watch():
                on_snapshot(snapshot)
        except grpc.RpcError as error:
            log.debug("watch_broken", error=str(rpc.to_error(error)))
        await asyncio.sleep(RECONNECT_SECONDS)


def _version(stored: registry_pb.NodeVersion) -> VersionView:
    return VersionView(
        node=stored.node,
        version=stored.version,
        digest=stored.digest,
        effect=_effect(stored.effect),
        attempt_timeout=stored.attempt_timeout.ToTimedelta() if stored.HasField("attempt_timeout") else None,
        endpoints=len(stored.endpoints),
        batch=_batch(stored) if stored.batchable else 1,
        verifiable=stored.verifiable,
        cancelable=stored.cancelable,
        slots=slots_of(stored.credentials),
    )


def _batch(stored: registry_pb.NodeVersion) -> int:
    return max(1, min(BATCH_ITEMS, stored.max_concurrency // BATCH_SHARE))


def _effect(stored: Effect) -> EffectClass | Expression:
    if not stored.expression:
        return _CLASSES.get(getattr(stored, "class"), EffectClass.AT_MOST_ONCE)
    try:
        return compile_expression(stored.expression)
    except ExpressionProblem as error:
        log.warning("effect_unreadable", expression=stored.expression, error=error.message)
        return EffectClass.AT_MOST_ONCE


def _route(stored: routing_pb.Route) -> RouteView:
    targets = tuple(
        TargetView(t.version, t.weight, tuple(t.fallback), max(t.tries, 1), t.shadow) for t in stored.targets
    )
    return RouteView(stored.node, stored.revision, targets, _sticky(stored), stored.salt)


def _sticky(stored: routing_pb.Route) -> Expression | None:
    if not stored.sticky:
        return None
    try:
        return compile_expression(stored.sticky)
    except ExpressionProblem as error:  # of a control plane that knows more of the language
        log.warning("sticky_unreadable", node=stored.node, error=error.message)
        return None
