"""Routes, revisions and differences as messages of `reflux.api.routing.v1`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.controlplane.ejected import Cause
from reflux.controlplane.store import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.controlplane.diff import Change
    from reflux.controlplane.ejections import ProxyWatch
    from reflux.controlplane.routes import Target
    from reflux.controlplane.store import StoredRevision, StoredRoute

_STATES: Final = {
    State.PENDING: pb.Route.APPLYING,
    State.APPLIED: pb.Route.APPLIED,
    State.REJECTED: pb.Route.REJECTED,
}
_CAUSES: Final = {
    Cause.CONSECUTIVE: pb.EjectedEndpoint.CONSECUTIVE,
    Cause.FAILURE_PERCENTAGE: pb.EjectedEndpoint.FAILURE_PERCENTAGE,
    Cause.UNKNOWN: pb.EjectedEndpoint.REASON_UNSPECIFIED,
}


def route(stored: StoredRoute, waiting_for: Iterable[str] = (), left_out: Iterable[str] = ()) -> pb.Route:
    """The route that serves; its state and refusal are those of the newest update."""
    shown = revision(stored, waiting_for)
    shown.state, shown.refusal = _STATES[stored.newest_state], stored.newest_refusal
    shown.left_out.extend(left_out)
    return shown


def revision(stored: StoredRevision, waiting_for: Iterable[str] = ()) -> pb.Route:
    """One revision, with its own state and refusal."""
    at = Timestamp()
    at.FromDatetime(stored.created_at)
    return pb.Route(
        node=stored.route.node,
        revision=stored.route.revision,
        targets=[target(each) for each in stored.route.targets],
        state=_STATES[stored.state],
        waiting_for=waiting_for,
        note=stored.note,
        author=stored.author,
        update_time=at,
        refusal=stored.refusal,
        sticky=stored.route.sticky,
        salt=stored.route.salt,
        contracts_ignored=stored.contracts_ignored,
    )


def change(of: Change) -> pb.RouteChange:
    """One difference."""
    return pb.RouteChange(version=of.version, field=of.field, before=of.before, after=of.after)


def ejections(watched: Iterable[ProxyWatch], node: str, connected: Iterable[str]) -> pb.ListEjectionsResponse:
    """Who is ejected by whom, of one node or of all."""
    answer = pb.ListEjectionsResponse(connected=connected)
    for proxy in sorted(watched, key=lambda each: each.proxy):
        answer.proxies.add(address=proxy.proxy, reachable=proxy.reachable)
        for (of, version, endpoint), out in proxy.out.items():
            if node in ("", of):
                shown = answer.ejections.add(
                    proxy=proxy.proxy, node=of, version=version, endpoint=endpoint, reason=_CAUSES[out.cause]
                )
                shown.since.FromDatetime(out.since)
    return answer


def target(of: Target) -> pb.Target:
    """A target."""
    shown = pb.Target(
        version=of.version, weight=of.weight, fallback=of.fallback, tries=of.tries, shadow=of.shadow
    )
    if of.try_timeout_ms is not None:
        shown.try_timeout.FromMilliseconds(of.try_timeout_ms)
    if (ejection := of.ejection) is not None:
        shown.ejection.threshold_percent = ejection.threshold_percent
        shown.ejection.consecutive = ejection.consecutive
        shown.ejection.interval.FromMilliseconds(ejection.interval_ms)
        shown.ejection.base_time.FromMilliseconds(ejection.base_time_ms)
        shown.ejection.min_requests = ejection.min_requests
    if (limits := of.limits) is not None:
        shown.limits.max_requests = limits.max_requests or 0
        shown.limits.max_pending = limits.max_pending or 0
    return shown
