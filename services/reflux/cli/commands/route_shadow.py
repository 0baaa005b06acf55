"""`reflux route shadow`: which versions get copies of a node's calls, and how their outputs compare."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import typer

from reflux.cli import completion, documents
from reflux.cli.commands.route_set import PERCENT, document_of, get_route, show_applied
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, Session, session, to_dict


def shadow(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Its name.", autocompletion=completion.nodes)],
    shares: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VERSION=PERCENT...]",
            help="Whom to give copies of so many of the node's pure calls; 0 for none any more.",
            autocompletion=completion.shares,
        ),
    ] = None,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say how the outputs of versions in the shadow compare with the real ones; with shares, put them there.

    A copy changes nothing: its answer is thrown away, and only compared. Only calls that have no effect
    outside are copied.

    [bold]reflux route shadow http.request 2.0.0=5[/]
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        if shares:
            _put(reflux, node, shares)
        else:
            _show(reflux, node)


def _put(reflux: Session, node: str, shares: list[str]) -> None:
    from reflux.api.routing.v1.routing_service_pb2 import UpdateRouteRequest

    route = document_of(get_route(reflux, node))
    targets = {target["version"]: target for target in route["targets"]}
    for each in shares:
        version, _, text = each.rpartition("=")
        percent = PERCENT.fullmatch(text)
        if not version or percent is None:
            raise wrong(f"{each}: a share is VERSION=PERCENT with at most two decimals, such as 2.0.0=5")
        if version not in targets:
            targets[version] = {"version": version, "weight": 0}
            route["targets"].append(targets[version])
        targets[version]["shadow"] = int(Decimal(percent[1]) * 100)
    document = documents.of_value({**route, "note": "shadow " + " ".join(shares)}, "the route")
    request = UpdateRouteRequest(node=node, document=document.body())
    show_applied(reflux, to_dict(reflux.routes.UpdateRoute(request, timeout=SECONDS)))


def _show(reflux: Session, node: str) -> None:
    from reflux.api.shadow.v1.shadow_service_pb2 import ListShadowsRequest

    answer = to_dict(reflux.shadows.ListShadows(ListShadowsRequest(node=node), timeout=SECONDS))
    if reflux.out.as_json:
        reflux.out.json(answer)
        return
    names = ("equal", "different", "failed", "uncompared", "unheard")
    columns = [Column("VERSION"), *(Column(name.upper(), right=True) for name in names)]
    rows = [(each["version"], *(each[name] for name in names)) for each in answer["shadows"]]
    reflux.out.table(columns, rows, empty="nothing is known of a shadow")
    places = list(_places(answer["shadows"]))
    if places:
        reflux.out.line()
        columns = [Column("VERSION"), Column("WHERE"), Column("WHAT"), Column("COPIES", right=True)]
        reflux.out.table(
            [*columns, Column("LAST RUN"), Column("ANSWERED", wraps=True), Column("SHADOWED", wraps=True)],
            places,
        )


def _places(shadows: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for each in shadows:
        for place in each["differences"]:
            last = place["examples"][0] if place["examples"] else {}
            run = f"{last['run_id']} {last['step']}" if last else ""
            told = (last.get("answered", ""), last.get("shadowed", ""))
            yield (each["version"], place["pointer"] or "(all)", place["kind"], place["count"], run, *told)
