"""RoutingService: translate, ask, translate back. How a route is changed stands in `updates`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceServicer
from reflux.controlplane import document, growth, views
from reflux.controlplane.diff import diff
from reflux.controlplane.routes import Route
from reflux.controlplane.store import State
from reflux.core.errors import Exhausted, InvalidArgument, NotFound, Refused, Unavailable, Violation
from reflux.core.reasons import Reason
from reflux.runtime import documents, pages
from reflux.runtime.callers import actor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from reflux.controlplane.catalog import Catalog
    from reflux.controlplane.contracts import Contracts
    from reflux.controlplane.controller import Controller
    from reflux.controlplane.ejections import ProxyWatch
    from reflux.controlplane.store import RouteStore, StoredRevision, StoredRoute
    from reflux.controlplane.updates import Updates

MAX_WATCHERS: Final = 256
_NO_REVISION: Final = (1 << 31) - 1
"""Above every revision."""


class RoutingServicer(RoutingServiceServicer):
    """Every method may also raise psycopg.Error when the database is away."""

    def __init__(
        self,
        store: RouteStore,
        controller: Controller,
        contracts: Contracts,
        updates: Updates,
        watched: Sequence[ProxyWatch] = (),
    ) -> None:
        self._contracts = contracts
        self._watched = watched
        self._store = store
        self._controller = controller
        self._updates = updates
        self._watchers = 0

    async def GetRoute(self, request: pb.GetRouteRequest, context: Any) -> pb.Route:  # noqa: N802
        """Raises NotFound."""
        del context
        return await self._describe(await self._serving(request.node))

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
        """Raises InvalidArgument, NotFound, Conflict, Refused, Unavailable."""
        known = self._catalog().of(request.node)
        if not known:
            raise NotFound(Reason.NODE_NOT_FOUND, f"no node {request.node!r} is registered")
        read = document.read(request.node, documents.parse(request.document, what="the route"), known)
        if read.violations:
            message = f"the route has {len(read.violations)} problem(s): {read.violations[0].message}"
            raise InvalidArgument(Reason.ROUTE_INVALID, message, violations=read.violations)
        route = Route(request.node, read.revision, read.targets, read.sticky, read.salt)
        return await self._make(route, read.note, context, ignore_contracts=request.ignore_contracts)

    async def ListRouteRevisions(  # noqa: N802
        self, request: pb.ListRouteRevisionsRequest, context: Any
    ) -> pb.ListRouteRevisionsResponse:
        """Raises InvalidArgument, NotFound."""
        del context
        size = pages.page_size(request.page_size)
        listing = f"revisions of {request.node}"
        before = pages.read_token(listing, request.page_token, first=_NO_REVISION, parse=_revision_number)
        found = await self._store.revisions(request.node, before, size + 1)
        if not found:
            raise _route_not_found(request.node)
        token = pages.write_token(listing, str(found[size - 1].route.revision)) if len(found) > size else ""
        revisions = [await self._describe_revision(each) for each in found[:size]]
        return pb.ListRouteRevisionsResponse(revisions=revisions, next_page_token=token)

    async def GetRouteRevision(self, request: pb.GetRouteRevisionRequest, context: Any) -> pb.Route:  # noqa: N802
        """Raises NotFound."""
        del context
        return await self._describe_revision(await self._revision(request.node, request.revision))

    async def DiffRoute(self, request: pb.DiffRouteRequest, context: Any) -> pb.DiffRouteResponse:  # noqa: N802
        """Raises NotFound."""
        del context
        node = request.node
        to: StoredRevision = (
            await self._revision(node, request.to_revision)
            if request.to_revision
            else await self._serving(node)
        )
        since = (
            await self._revision(node, request.from_revision)
            if request.from_revision
            else await self._store.former(node, to.route.revision)
        )
        changes = diff(since.route if since else None, to.route)
        return pb.DiffRouteResponse(
            from_revision=since.route.revision if since else 0,
            to_revision=to.route.revision,
            changes=[views.change(each) for each in changes],
        )

    async def RollbackRoute(self, request: pb.RollbackRouteRequest, context: Any) -> pb.Route:  # noqa: N802
        """Raises InvalidArgument, NotFound, Conflict, Refused, Unavailable."""
        node, note = request.node, request.note or f"back to revision {request.revision}"
        if not document.is_note(note):
            wrong = [Violation("note", document.NOTE_FORM)]
            raise InvalidArgument(Reason.ARGUMENT_INVALID, document.NOTE_FORM, violations=wrong)
        catalog = self._catalog()
        former = await self._revision(node, request.revision)
        about = {"node": node, "revision": str(request.revision)}
        if former.state is State.REJECTED:
            message = (
                f"a proxy refused revision {request.revision} of {node}, it never served. {former.refusal}"
            )
            raise Refused(Reason.REVISION_REJECTED, message, metadata=about)
        if gone := sorted(former.route.versions() - set(catalog.of(node))):
            message = f"revision {request.revision} of {node} names what is not registered: {', '.join(gone)}"
            raise Refused(
                Reason.NODE_VERSION_NOT_FOUND, message, metadata=about | {"versions": ",".join(gone)}
            )
        # The salt of today: going back to older shares deals nobody anew who was not dealt anew since.
        route = replace(former.route, revision=request.expected_revision, salt=None)
        return await self._make(route, note, context, ignore_contracts=request.ignore_contracts)

    async def ListEjections(  # noqa: N802
        self, request: pb.ListEjectionsRequest, context: Any
    ) -> pb.ListEjectionsResponse:
        """Never fails: what is not known is said in the answer."""
        del context
        connected = [report.proxy for report in self._controller.fleet.reports()]
        return views.ejections(self._watched, request.node, connected)

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
                    yield pb.WatchRoutesResponse(routes=[views.route(each) for each in routes])
                turns = await self._controller.turned(turns)
        finally:
            self._watchers -= 1

    def _catalog(self) -> Catalog:
        if self._controller.catalog is None:
            raise Unavailable(Reason.SERVICE_UNREACHABLE, "the registry has not been heard yet; try again")
        return self._controller.catalog

    async def _make(self, route: Route, note: str, context: Any, *, ignore_contracts: bool) -> pb.Route:
        """A new revision, as it stands when the proxies have answered or the wait is over."""
        before = await self._store.serving_route(route.node)
        fresh = before is not None and route.revision in (0, before.route.revision)
        if before is not None and fresh and not ignore_contracts:
            await self._contracts.judge(route, before.route, self._catalog().of(route.node))
        revision = await self._updates.make(
            route, author=actor(context), note=note, contracts_ignored=ignore_contracts
        )
        return await self._describe_revision(await self._revision(route.node, revision))

    async def _serving(self, node: str) -> StoredRoute:
        found = await self._store.serving_route(node)
        if found is None:
            raise _route_not_found(node)
        return found

    async def _revision(self, node: str, revision: int) -> StoredRevision:
        found = await self._store.revision(node, revision)
        if found is not None:
            return found
        newest = await self._store.revisions(node, _NO_REVISION, 1)
        if not newest:
            raise _route_not_found(node)
        message = f"the route of {node} has no revision {revision}; its newest is {newest[0].route.revision}"
        raise NotFound(Reason.REVISION_NOT_FOUND, message)

    async def _describe(self, stored: StoredRoute) -> pb.Route:
        catalog = self._controller.catalog
        left_out = growth.left_out(stored, catalog.of(stored.route.node)) if catalog is not None else ()
        return views.route(stored, await self._waiting_for(stored), left_out)

    async def _describe_revision(self, stored: StoredRevision) -> pb.Route:
        return views.revision(stored, await self._waiting_for(stored))

    async def _waiting_for(self, stored: StoredRevision) -> tuple[str, ...]:
        if stored.state is not State.PENDING:
            return ()
        return (await self._store.standing(stored.route.node, stored.route.revision)).waiting_for


def _route_not_found(node: str) -> NotFound:
    return NotFound(Reason.ROUTE_NOT_FOUND, f"{node!r} has no route")


def _revision_number(text: str) -> int:
    number = int(text)
    if not 0 < number <= _NO_REVISION:
        raise ValueError(text)
    return number
