"""`reflux node`: what can be called, where it lives, and how much traffic it gets."""

from itertools import groupby
from typing import Annotated, Any

import typer

from reflux.cli import completion, contracts, spoken
from reflux.cli.failures import not_found
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, Session, all_pages, session, to_dict

app = typer.Typer(no_args_is_help=True, help="What can be called: nodes, their versions and live endpoints.")


@app.command("list")
def list_nodes(server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List every version of every node: endpoints, share of the traffic, and flows that it does not fit."""
    with session(server, data_dir, as_json=as_json) as reflux:
        versions = [
            each
            for name, group in groupby(all_versions(reflux), key=lambda each: str(each["node"]))
            for each in contracts.with_misfits(reflux, name, list(group))
        ]
        if as_json:
            reflux.out.json({"versions": versions})
            return
        columns = [
            Column("NODE"),
            Column("VERSION"),
            Column("STATE"),
            Column("ENDPOINTS", right=True),
            Column("SHARE", right=True),
            Column("EFFECT"),
            Column("UNFIT FOR", wraps=True),
            Column("DESCRIPTION", wraps=True),
        ]
        rows = [
            (
                each["node"],
                each["version"],
                each["state"],
                len(each["endpoints"]),
                share_of(each),
                spoken.effect(each.get("effect", {})),
                contracts.flows_of(each["misfits"]),
                each["description"].partition("\n")[0],
            )
            for each in versions
        ]
        reflux.out.table(columns, rows, empty="no node is registered")


@app.command("get")
def get(
    node: Annotated[
        str, typer.Argument(metavar="NODE[@VERSION]", help="Its name.", autocompletion=completion.nodes)
    ],
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a node, or one version of it: effect, limits, endpoints, its part in the route, unfit flows."""
    name, _, version = node.partition("@")
    with session(server, data_dir, as_json=as_json) as reflux:
        versions = contracts.with_misfits(reflux, name, versions_of(reflux, name, targets_of(reflux)))
        if version:
            known = ", ".join(each["version"] for each in versions)
            versions = [each for each in versions if each["version"] == version]
            if not versions:
                raise not_found(f"{name} has no version {version!r}; it has {known}")
        if as_json:
            reflux.out.json({"node": name, "versions": versions})
            return
        for index, each in enumerate(versions):
            if index:
                reflux.out.line()
            _show(reflux, each)
            contracts.show_misfits(reflux, each["misfits"])


def _show(reflux: Session, version: dict[str, Any]) -> None:
    effect, target = version.get("effect", {}), version["target"] or {}
    reflux.out.pairs(
        (
            ("version", f"{version['node']}@{version['version']}"),
            ("does", " ".join(version["description"].split())),
            ("state", version["state"]),
            ("effect", spoken.effect(effect)),
            ("decided by", effect.get("expression")),
            ("key holds within", effect.get("scope")),
            ("attempt timeout", version.get("attempt_timeout")),
            ("calls at once", f"{version['max_concurrency']} for each endpoint"),
            ("share", share_of(version)),
            ("fallback", " → ".join(target.get("fallback", []))),
            ("tries", target.get("tries")),
            ("try timeout", target.get("try_timeout")),
            ("endpoints", ", ".join(each["address"] for each in version["endpoints"]) or "none is live"),
            ("known since", spoken.local(version.get("create_time"))),
            ("digest", version["digest"]),
        )
    )


def all_versions(reflux: Session) -> list[dict[str, Any]]:
    """Every NodeVersion with its `target` in the route of its node, null when it has none."""
    from reflux.api.registry.v1.registry_service_pb2 import ListNodesRequest

    targets = targets_of(reflux)
    nodes = all_pages(reflux.nodes.ListNodes, ListNodesRequest(), "nodes")
    return [version for node in nodes for version in versions_of(reflux, node.name, targets)]


def versions_of(reflux: Session, node: str, targets: dict[tuple[str, str], Any]) -> list[dict[str, Any]]:
    """The versions of a node, newest first, each with its `target`."""
    from reflux.api.registry.v1.registry_service_pb2 import ListNodeVersionsRequest

    answer = reflux.nodes.ListNodeVersions(ListNodeVersionsRequest(node=node), timeout=SECONDS)
    versions = [to_dict(each) for each in answer.versions]
    return [{**each, "target": targets.get((node, each["version"]))} for each in versions]


def targets_of(reflux: Session) -> dict[tuple[str, str], Any]:
    """The targets of all routes by node and version."""
    from reflux.api.routing.v1.routing_service_pb2 import ListRoutesRequest

    routes = all_pages(reflux.routes.ListRoutes, ListRoutesRequest(), "routes")
    return {(route.node, target.version): to_dict(target) for route in routes for target in route.targets}


def share_of(version: dict[str, Any]) -> str:
    """Its share of the node's traffic; empty when the route does not name it."""
    target = version["target"]
    return spoken.percent(target["weight"]) if target else ""
