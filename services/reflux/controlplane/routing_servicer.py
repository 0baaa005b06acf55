"""RoutingService: routes as the API shows them, and the one way to change them.

An update is a new revision that every proxy must accept. Updates take turns within one control plane, so a
refusal is blamed on the update that caused it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceServicer
from reflux.controlplane import document
from reflux.controlplane.routes import Route
from reflux.controlplane.store import Standing, State
from reflux.core.errors import Conflict, Exhausted, InvalidArgument, NotFound, Refused, Unavailable
from reflux.core.reasons import Reason
from reflux.runtime import documents, pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reflux.controlplane.controller import Controller
    from reflux.controlplane.routes import Target
    from reflux.controlplane.store import RouteStore, StoredRoute

WAIT_SECONDS: Final = 5.0
"""How long an update waits for the proxies before it answers APPLYING."""
MAX_WATCHERS: Final = 256

_STATES: Final = {
    State.PENDING: pb.Route.APPLYING,
    State.APPLIED: pb.Route.APPLIED,
    State.REJECTED: pb.Route.REJECTED,
}


class RoutingServicer(RoutingServiceServicer):
    """Translate, ask, translate back."""

    def __init__(self, store: RouteStore, controller: Controller) -> None:
        self._store = store
        self._controller = controller
        self._updates = asyncio.Lock()
        self._watchers = 0

    async def GetRoute(self, request: pb.GetRouteRequest, context: Any) -> pb.Route:  # noqa: N802
        """Raises NotFound."""
        del context
        return await self._get(request.node)

    async def ListRoutes(self, request: pb.ListRoutesRequest, context: Any) -> pb.ListRoutesResponse:  # noqa: N802
        """Raises InvalidArgument."""
        del context
        size = pages.page_size(request.page_size)
        after = pages.read_token("routes", request.page_token, first="")
        rest = [each for each in await self._store.serving() if each.route.node > after]
        token = pages.write_token("routes", rest[size - 1].route.node) if len(rest) > size else ""
        routes = [await self._describe(each) for each in rest[:size]]
        return pb.ListRoutesResponse(routes=routes, next_page_token=token)

    async def UpdateRoute(self, request: pb.UpdateRouteRequest, context: Any) -> pb.Route:  # noqa: N802
        """Raises InvalidArgument, NotFound, Conflict, Refused."""
        catalog = self._controller.catalog
        if catalog is None:
            raise Unavailable(Reason.SERVICE_UNREACHABLE, "the registry has not been heard yet; try again")
        known = catalog.of(request.node)
        if not known:
            raise NotFound(Reason.NODE_NOT_FOUND, f"no node {request.node!r} is registered")
        read = document.read(request.node, documents.parse(request.document, what="the route"), known)
        if read.violations:
            message = f"the route has {len(read.violations)} problem(s): {read.violations[0].message}"
            raise InvalidArgument(Reason.ROUTE_INVALID, message, violations=read.violations)
        author = dict(context.invocation_metadata()).get("x-reflux-actor", "anonymous")
        route = Route(request.node, read.revision, read.targets)
        async with self._updates:
            return await self._update(route, str(author), read.note)

    async def _update(self, route: Route, author: str, note: str) -> pb.Route:
        revision = await self._store.propose(route, author=author, note=note)
        if revision is None:
            message = f"the route of {route.node} is no longer at revision {route.revision}; read it again"
            raise Conflict(Reason.REVISION_STALE, message)
        standing = await self._outcome(route.node, revision)
        if standing.state is State.REJECTED:
            message = f"a proxy refused the route, the former one serves on. {standing.refusal}"
            metadata = {"node": route.node, "revision": str(revision)}
            raise Refused(Reason.ROUTE_REJECTED, message, metadata=metadata)
        return await self._get(route.node)

    async def _outcome(self, node: str, revision: int) -> Standing:
        """Where the revision stands once it is settled, or when the wait is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                turns = self._controller.turns
                self._controller.wake()
                while (standing := await self._store.standing(node, revision)).state is State.PENDING:
                    turns = await self._controller.turned(turns)
                return standing
        return await self._store.standing(node, revision)

    async def WatchRoutes(  # noqa: N802
        self, request: pb.WatchRoutesRequest, context: Any
    ) -> AsyncIterator[pb.WatchRoutesResponse]:
        """Raises Exhausted."""
        del request, context
        if self._watchers >= MAX_WATCHERS:
            raise Exhausted(Reason.TOO_MANY_WATCHERS, f"at most {MAX_WATCHERS} watch the routes")
        self._watchers += 1
        try:
            told, turns = None, await self._controller.turned(0)
            while True:
                routes = self._controller.routes
                if routes is not None and routes != told:
                    told = routes
                    yield pb.WatchRoutesResponse(routes=[_route(each) for each in routes])
                turns = await self._controller.turned(turns)
        finally:
            self._watchers -= 1

    async def _get(self, node: str) -> pb.Route:
        for each in await self._store.serving():
            if each.route.node == node:
                return await self._describe(each)
        raise NotFound(Reason.ROUTE_NOT_FOUND, f"{node!r} has no route")

    async def _describe(self, stored: StoredRoute) -> pb.Route:
        route = _route(stored)
        if stored.newest_state is State.PENDING:
            standing = await self._store.standing(stored.route.node, stored.route.revision)
            route.waiting_for.extend(standing.waiting_for)
        return route


def _route(stored: StoredRoute) -> pb.Route:
    at = Timestamp()
    at.FromDatetime(stored.created_at)
    return pb.Route(
        node=stored.route.node,
        revision=stored.route.revision,
        targets=[_target(each) for each in stored.route.targets],
        state=_STATES[stored.newest_state],
        note=stored.note,
        author=stored.author,
        update_time=at,
    )


def _target(of: Target) -> pb.Target:
    target = pb.Target(version=of.version, weight=of.weight, fallback=of.fallback, tries=of.tries)
    if of.try_timeout_ms is not None:
        target.try_timeout.FromMilliseconds(of.try_timeout_ms)
    return target
