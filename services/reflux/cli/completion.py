"""Names for the shell's completion: flows, runs, nodes, versions, triggers, as the server knows them.

A shell waits for us while a person types, so asking is bounded to a second and silent: whatever goes wrong,
from a wrong setting to no server, there is nothing to complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer  # noqa: TC002 - typer reads the annotations of these functions

from reflux.cli.session import Session, opened
from reflux.cli.target import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECONDS: Final = 1.0
MOST: Final = 200
"""Names asked for; more than a person reads."""

Names = list[tuple[str, str]]
"""Each with its help text."""


def flows(ctx: typer.Context, incomplete: str) -> Names:
    """Flows by name."""
    return _complete(ctx, incomplete, _flows)


def runs(ctx: typer.Context, incomplete: str) -> Names:
    """The newest runs by id."""
    return _complete(ctx, incomplete, _runs)


def steps(ctx: typer.Context, incomplete: str) -> Names:
    """Steps of the run that was given before."""
    return _complete(ctx, incomplete, lambda session: _steps(session, _given(ctx, "run_id")))


def nodes(ctx: typer.Context, incomplete: str) -> Names:
    """Nodes by name."""
    return _complete(ctx, incomplete, _nodes)


def flow_versions(ctx: typer.Context, incomplete: str) -> Names:
    """Version numbers of the flow that was given before, newest first."""
    return _complete(ctx, incomplete, lambda session: _flow_versions(session, _given(ctx, "name")))


def revisions(ctx: typer.Context, incomplete: str) -> Names:
    """Revisions of the route of the node that was given before, newest first."""
    return _complete(ctx, incomplete, lambda session: _revisions(session, _given(ctx, "node")))


def shares(ctx: typer.Context, incomplete: str) -> Names:
    """`VERSION=` for each version of the node that was given before."""
    return _complete(ctx, incomplete, lambda session: _shares(session, _given(ctx, "node")))


def triggers(ctx: typer.Context, incomplete: str) -> Names:
    """Triggers of the flow that was given before."""
    return _complete(ctx, incomplete, lambda session: _triggers(session, _given(ctx, "flow")))


def _complete(
    ctx: typer.Context, incomplete: str, ask: Callable[[Session], Iterable[tuple[str, str]]]
) -> Names:
    from reflux.cli.output import Output

    try:
        where = find(ctx.params.get("server"), ctx.params.get("data_dir"))
        with opened(where) as channel:
            names = [*ask(Session(where, Output(), channel))]
    except Exception:  # noqa: BLE001 - a shell has no use for our troubles
        return []
    return [(name, text) for name, text in names if name.startswith(incomplete)]


def _given(ctx: typer.Context, name: str) -> str:
    """An argument before the one that is being completed."""
    return str(ctx.params[name])


def _flows(session: Session) -> Names:
    from reflux.api.flow.v1.flow_service_pb2 import ListFlowsRequest

    page = session.flows.ListFlows(ListFlowsRequest(page_size=MOST), timeout=SECONDS)
    return [(flow.name, flow.description) for flow in page.flows]


def _runs(session: Session) -> Names:
    from reflux.api.run.v1.run_service_pb2 import ListRunsRequest, Run

    page = session.runs.ListRuns(ListRunsRequest(page_size=MOST), timeout=SECONDS)
    return [(run.id, f"{run.flow_name} {Run.State.Name(run.state)}") for run in page.runs]


def _steps(session: Session, run: str) -> Names:
    from reflux.api.run.v1.run_service_pb2 import ListStepRunsRequest
    from reflux.cli.session import read

    answer: Any = read(session.runs.ListStepRuns(ListStepRunsRequest(run_id=run), timeout=SECONDS))
    return [(step["id"], step["state"]) for step in answer["steps"]]


def _nodes(session: Session) -> Names:
    from reflux.api.registry.v1.registry_service_pb2 import ListNodesRequest

    page = session.nodes.ListNodes(ListNodesRequest(page_size=MOST), timeout=SECONDS)
    return [(node.name, node.description) for node in page.nodes]


def _flow_versions(session: Session, flow: str) -> Names:
    from reflux.api.flow.v1.flow_service_pb2 import ListFlowVersionsRequest

    request = ListFlowVersionsRequest(flow_id=flow, page_size=MOST)
    page = session.flows.ListFlowVersions(request, timeout=SECONDS)
    return [(str(version.version), version.digest[:12]) for version in page.versions]


def _revisions(session: Session, node: str) -> Names:
    from reflux.api.routing.v1.routing_service_pb2 import ListRouteRevisionsRequest

    request = ListRouteRevisionsRequest(node=node, page_size=MOST)
    page = session.routes.ListRouteRevisions(request, timeout=SECONDS)
    return [(str(route.revision), route.note) for route in page.revisions]


def _shares(session: Session, node: str) -> Names:
    from reflux.api.registry.v1.registry_service_pb2 import ListNodeVersionsRequest

    page = session.nodes.ListNodeVersions(ListNodeVersionsRequest(node=node), timeout=SECONDS)
    return [(f"{version.version}=", version.description) for version in page.versions]


def _triggers(session: Session, flow: str) -> Names:
    from reflux.api.trigger.v1.trigger_service_pb2 import ListTriggersRequest

    page = session.triggers.ListTriggers(ListTriggersRequest(flow_id=flow, page_size=MOST), timeout=SECONDS)
    return [(trigger.id, trigger.path or trigger.title) for trigger in page.triggers]
