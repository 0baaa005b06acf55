"""`reflux route`: who gets how much of a node's traffic, since when, why, and back."""

from typing import Annotated, Any

import typer

from reflux.cli import completion, spoken
from reflux.cli.commands import route_set, route_shadow
from reflux.cli.commands.route_set import document_of, get_route, show_applied, show_targets
from reflux.cli.exits import Exit
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, IgnoreContracts, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, all_pages, session, to_dict

app = typer.Typer(
    no_args_is_help=True,
    help="Who gets how much of a node's traffic: look, change, compare, roll back.",
)

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Its name.", autocompletion=completion.nodes)]


@app.command("list")
def list_routes(server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the routes by node."""
    from reflux.api.routing.v1.routing_service_pb2 import ListRoutesRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        routes = [
            to_dict(each) for each in all_pages(reflux.routes.ListRoutes, ListRoutesRequest(), "routes")
        ]
        if as_json:
            reflux.out.json({"routes": routes})
            return
        columns = [
            Column("NODE"),
            Column("REVISION", right=True),
            Column("STATE"),
            Column("CHANGED", right=True),
            Column("SHARES", wraps=True),
            Column("NOTE", wraps=True),
        ]
        reflux.out.table(columns, [(each["node"], *_row(each)) for each in routes], empty="no route")


@app.command("get")
def get(
    *,
    node: NodeName,
    revision: Annotated[
        int | None,
        typer.Option(min=1, help="A former revision.", autocompletion=completion.revisions),
    ] = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Only the document, as `route set` takes it.")
    ] = False,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a node's route: shares, fallbacks, tries, and where its newest update stands."""
    from reflux.cli.documents import to_yaml

    with session(server, data_dir, as_json=as_json) as reflux:
        route = get_route(reflux, node, revision)
        if as_json:
            reflux.out.json(route)
        elif as_yaml:
            reflux.out.raw(to_yaml(document_of(route)))
        else:
            reflux.out.pairs(
                (
                    ("node", route["node"]),
                    ("revision", route["revision"]),
                    ("state", route["state"]),
                    ("waiting for", ", ".join(route["waiting_for"])),
                    ("refused", route["refusal"]),
                    ("sticky", route["sticky"]),
                    ("note", route["note"]),
                    ("contracts", "ignored" if route["contracts_ignored"] else ""),
                    ("left out", _left_out(route)),
                    ("author", route["author"]),
                    ("changed", spoken.local(route.get("update_time"))),
                )
            )
            reflux.out.line()
            show_targets(reflux.out, route)


app.command("set")(route_set.set_route)
app.command("shadow")(route_shadow.shadow)


@app.command("history")
def history(
    node: NodeName,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the revisions a node's route had, newest first, those that a proxy refused included."""
    from reflux.api.routing.v1.routing_service_pb2 import ListRouteRevisionsRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = ListRouteRevisionsRequest(node=node)
        pages = all_pages(reflux.routes.ListRouteRevisions, request, "revisions", limit=limit)
        revisions = [to_dict(each) for each in pages]
        if as_json:
            reflux.out.json({"revisions": revisions})
            return
        columns = [
            Column("REVISION", right=True),
            Column("STATE"),
            Column("CHANGED", right=True),
            Column("SHARES", wraps=True),
            Column("NOTE", wraps=True),
            Column("AUTHOR"),
        ]
        reflux.out.table(columns, [(*_row(each), each["author"]) for each in revisions])


@app.command("diff")
def diff(
    *,
    node: NodeName,
    one: Annotated[
        int | None,
        typer.Argument(metavar="[A]", min=1, help="The older revision.", autocompletion=completion.revisions),
    ] = None,
    other: Annotated[
        int | None,
        typer.Argument(
            metavar="[B]",
            min=1,
            help="The newer one; default: the one that serves.",
            autocompletion=completion.revisions,
        ),
    ] = None,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two revisions; default: the one that serves, and the one before it.

    Exit status 0 when they are equal, 1 when they differ.
    """
    from reflux.api.routing.v1.routing_service_pb2 import DiffRouteRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = DiffRouteRequest(node=node, from_revision=one or 0, to_revision=other or 0)
        answer = to_dict(reflux.routes.DiffRoute(request, timeout=SECONDS))
        if as_json:
            reflux.out.json(answer)
        elif answer["changes"]:
            reflux.out.line(f"{node}: revision {answer['from_revision']} → {answer['to_revision']}", "bold")
            columns = [Column("VERSION"), Column("FIELD"), Column("BEFORE"), Column("AFTER")]
            rows = [
                (
                    change["version"],
                    change["field"],
                    _value(change["field"], change["before"]),
                    _value(change["field"], change["after"]),
                )
                for change in answer["changes"]
            ]
            reflux.out.table(columns, rows)
        else:
            reflux.out.note(f"revisions {answer['from_revision']} and {answer['to_revision']} are equal")
        if answer["changes"]:
            raise typer.Exit(Exit.FAILED)


@app.command("rollback")
def rollback(
    *,
    node: NodeName,
    revision: Annotated[
        int | None,
        typer.Argument(
            min=1,
            metavar="[REVISION]",
            help="The revision to repeat; default: the one that served before.",
            autocompletion=completion.revisions,
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="Why, in your words.")] = "",
    ignore_contracts: IgnoreContracts = False,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a new revision that equals an older one; Envoy serves it within milliseconds.

    Nothing is overwritten: if the route was changed since this command read it, the exit status is 4.
    """
    from reflux.api.routing.v1.routing_service_pb2 import ListRouteRevisionsRequest, RollbackRouteRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        serving = get_route(reflux, node)["revision"]
        if revision is None:
            listing = ListRouteRevisionsRequest(node=node)
            former = all_pages(reflux.routes.ListRouteRevisions, listing, "revisions")
            revision = _before(serving, [to_dict(each) for each in former])
            if revision is None:
                raise wrong(
                    f"nothing served {node} before revision {serving}: there is nothing to go back to"
                )
        request = RollbackRouteRequest(
            node=node,
            revision=revision,
            expected_revision=serving,
            note=note,
            ignore_contracts=ignore_contracts,
        )
        route = to_dict(reflux.routes.RollbackRoute(request, timeout=SECONDS))
        show_applied(reflux, route, f"it equals revision {revision}")


def _before(serving: int, revisions: list[dict[str, Any]]) -> int | None:
    """The newest revision below the one that serves that every proxy took."""
    taken = (each["revision"] for each in revisions if each["state"] != "REJECTED")
    return max((each for each in taken if each < serving), default=None)


def _row(route: dict[str, Any]) -> tuple[object, ...]:
    shares = ", ".join(
        f"{target['version']} {spoken.percent(target['weight'])}" for target in route["targets"]
    )
    return route["revision"], route["state"], spoken.ago(route.get("update_time")), shares, route["note"]


def _left_out(route: dict[str, Any]) -> str:
    versions = ", ".join(route["left_out"])
    return f"{versions} (reflux node list says why)" if versions else ""


def _value(field: str, text: str) -> str:
    """A value of a change; shares as people know them."""
    if field == "weight" and text.isdigit():
        return spoken.percent(int(text))
    return text
