"""`reflux mesh`: what the proxies do now, and the emergency means at one of them.

`status` asks the API, so it works from anywhere. `config`, `tune` and `drain` talk to the admin interface of
one proxy, which listens on its own machine only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from reflux.cli import completion, spoken
from reflux.cli.admin import Admin, find
from reflux.cli.commands.node import all_versions, share_of
from reflux.cli.exits import Exit
from reflux.cli.failures import not_found, wrong
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column, Output
from reflux.cli.recipes import RECIPES, Recipe
from reflux.cli.session import SECONDS, Session, all_pages, explained, session, to_dict
from reflux.cli.target import find as find_target

app = typer.Typer(
    no_args_is_help=True, help="The proxies between orchestrator and nodes: who is ejected, and tuning."
)

AdminUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        show_default="the running stack's",
        help="Admin interface of the proxy, on this machine: http://127.0.0.1:9901",
    ),
]


@app.command("status")
def status(server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the proxies, routes that they have not taken, versions with their endpoints, and who is ejected.

    Exit status: 1 when somebody is ejected, a proxy does not answer or a route is not APPLIED.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        document = _status(reflux)
        if as_json:
            reflux.out.json(document)
        else:
            _show_status(reflux.out, document)
        if document["trouble"]:
            raise typer.Exit(Exit.FAILED)


def _status(reflux: Session) -> dict[str, Any]:
    from reflux.api.routing.v1.routing_service_pb2 import ListEjectionsRequest, ListRoutesRequest

    told = to_dict(reflux.routes.ListEjections(ListEjectionsRequest(), timeout=SECONDS))
    routes = [to_dict(each) for each in all_pages(reflux.routes.ListRoutes, ListRoutesRequest(), "routes")]
    trouble = [
        f"{each['node']}@{each['version']} at {each['endpoint']} is ejected by {each['proxy']}"
        for each in told["ejections"]
    ]
    trouble += [
        f"the proxy at {each['address']} does not answer: whom it has ejected is not known"
        for each in told["proxies"]
        if not each["reachable"]
    ]
    if (missing := len(told["connected"]) - len(told["proxies"])) > 0:
        trouble.append(f"{missing} connected proxies are not asked (REFLUX_PROXY_STATS_ADDRESSES)")
    trouble += [
        f"the newest route of {each['node']} is {each['state']} {', '.join(each['waiting_for'])}".rstrip()
        for each in routes
        if each["state"] != "APPLIED"
    ]
    out = {(each["node"], each["version"]) for each in told["ejections"]}
    versions = [
        {
            "node": each["node"],
            "version": each["version"],
            "endpoints": len(each["endpoints"]),
            "share": share_of(each),
            "ejected": len(
                {
                    one["endpoint"]
                    for one in told["ejections"]
                    if (one["node"], one["version"]) == (each["node"], each["version"])
                }
            )
            if (each["node"], each["version"]) in out
            else 0,
        }
        for each in all_versions(reflux)
    ]
    return {**told, "versions": versions, "trouble": trouble}


def _show_status(out: Output, document: dict[str, Any]) -> None:
    rows = [
        (each["address"], "answers" if each["reachable"] else "does not answer")
        for each in document["proxies"]
    ]
    out.table([Column("PROXY"), Column("STATISTICS")], rows, empty="no proxy is asked for its ejections")
    out.line(f"connected: {', '.join(document['connected']) or 'none'}")
    out.line()
    columns = [
        Column("NODE"),
        Column("VERSION"),
        Column("SHARE", right=True),
        Column("ENDPOINTS", right=True),
        Column("EJECTED", right=True),
    ]
    versions = document["versions"]
    out.table(
        columns,
        [
            (each["node"], each["version"], each["share"], each["endpoints"], each["ejected"] or "")
            for each in versions
        ],
        empty="no node is registered",
    )
    if document["ejections"]:
        out.line()
        columns = [Column(name) for name in ("EJECTED", "ENDPOINT", "BY", "SINCE", "BECAUSE")]
        out.table(
            columns,
            [
                (
                    f"{each['node']}@{each['version']}",
                    each["endpoint"],
                    each["proxy"],
                    spoken.clock(each["since"]),
                    _BECAUSE[each["reason"]],
                )
                for each in document["ejections"]
            ],
        )
    for each in document["trouble"]:
        out.line(f"! {each}", "yellow")


_BECAUSE = {
    "CONSECUTIVE": "failures in a row",
    "FAILURE_PERCENTAGE": "share of failures",
    "REASON_UNSPECIFIED": "not known",
}


@contextmanager
def _proxy(admin: str | None, data_dir: Any, *, as_json: bool) -> Iterator[tuple[Output, Admin]]:
    out = Output(as_json)
    with explained(out):
        yield out, find(admin, find_target(None, data_dir))


@app.command("config")
def config(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Its name.", autocompletion=completion.nodes)],
    admin: AdminUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a node's route as the proxy serves it: each choice, its chain's name and what the chain tries."""
    with _proxy(admin, data_dir, as_json=as_json) as (out, proxy):
        entries = _entries(proxy, node)
        if not entries:
            raise not_found(f"the proxy at {proxy.url} has no route for node {node!r}")
        if as_json:
            out.json({"node": node, "routes": entries})
            return
        columns = [Column(name) for name in ("ROUTE", "CHAIN", "WEIGHT", "TRIES IN TURN")]
        out.table(
            columns,
            [
                (each["name"], choice["chain"], choice["weight"], " → ".join(choice["members"]))
                for each in entries
                for choice in each["choices"]
            ],
        )


def _entries(proxy: Admin, node: str) -> list[dict[str, Any]]:
    """The routes of a node, each with its chains."""
    chains = {}
    for each in proxy.get("/config_dump?resource=dynamic_active_clusters").get("configs", ()):
        cluster = each["cluster"]
        members = cluster.get("cluster_type", {}).get("typed_config", {}).get("clusters", ())
        chains[cluster["name"]] = [member["name"] for member in members]
    found = []
    for each in proxy.get("/config_dump?resource=dynamic_route_configs").get("configs", ()):
        for host in each["route_config"]["virtual_hosts"]:
            for entry in host["routes"]:
                if not _is_of(entry, node) or "route" not in entry:
                    continue
                route = entry["route"]
                shares = route.get("weighted_clusters", {}).get("clusters") or [
                    {"name": route["cluster"], "weight": 10_000}
                ]
                choices = [
                    {
                        "chain": share["name"],
                        "weight": share.get("weight", 0),
                        "members": chains.get(share["name"], []),
                    }
                    for share in shares
                ]
                found.append({"name": entry.get("name", ""), "choices": choices})
    return found


def _is_of(entry: dict[str, Any], node: str) -> bool:
    headers = entry["match"].get("headers", ())
    return any(
        header["name"] == "x-reflux-node" and header.get("string_match", {}).get("exact") == node
        for header in headers
    )


@app.command("tune")
def tune(  # noqa: PLR0917 - typer's
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Without one: list them.")] = None,
    about: Annotated[
        str | None, typer.Argument(metavar="[VERSION|CHAIN]", help="What a recipe of that kind is about.")
    ] = None,
    value: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's default.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the recipe back.")] = False,
    admin: AdminUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tune a proxy in an emergency: at once, until it restarts or the recipe is taken back with --undo.

    Weights are not tuned here but by `reflux route set`: what the runtime changes, the journal does not know.
    """
    if recipe is None:
        _list(Output(as_json), as_json=as_json)
        return
    with _proxy(admin, data_dir, as_json=as_json) as (out, proxy):
        if (chosen := RECIPES.get(recipe)) is None:
            raise not_found(f"there is no recipe {recipe!r}; there are: {', '.join(RECIPES)}")
        it = _about(proxy, chosen, about)
        keys = chosen.undoing(it) if undo else chosen.settings(it, None if value is None else str(value))
        proxy.modify(keys)
        if as_json:
            out.json({"recipe": recipe, "proxy": proxy.url, "undone": undo, "runtime": keys})
            return
        out.pairs([(key, text or "as configured") for key, text in keys.items()])
        again = " ".join(filter(None, ("reflux mesh tune", recipe, it, "--undo")))
        out.line("taken back" if undo else f"until the proxy restarts; take it back with: {again}")


def _about(proxy: Admin, recipe: Recipe, about: str | None) -> str:
    """What the recipe is about, if it is there: a key with a wrong name would be taken and do nothing."""
    if not recipe.about:
        if about is not None:
            raise wrong(f"recipe {recipe.name} holds for the whole proxy; it is not about {about!r}")
        return ""
    if about is None:
        raise wrong(f"recipe {recipe.name} is about one {recipe.about}: name it")
    dump = proxy.get("/config_dump?resource=dynamic_active_clusters&mask=cluster.name")
    mark = "@" if recipe.about == "version" else "~"
    known = sorted(
        each["cluster"]["name"] for each in dump.get("configs", ()) if mark in each["cluster"]["name"]
    )
    if about not in known:
        raise not_found(f"the proxy has no {recipe.about} {about!r}; it has {', '.join(known) or 'none'}")
    return about


def _list(out: Output, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "name": each.name,
                "about": each.about,
                "value": each.value,
                "does": each.does,
                "runtime": each.keys,
            }
            for each in RECIPES.values()
        ]
        out.json({"recipes": rows})
        return
    columns = [Column("RECIPE"), Column("ABOUT"), Column("VALUE", right=True), Column("DOES", wraps=True)]
    out.table(columns, [(each.name, each.about or "all", each.value, each.does) for each in RECIPES.values()])


@app.command("drain")
def drain(
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it: the proxy must be restarted afterwards.")
    ] = False,
    admin: AdminUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a proxy take leave of its callers before a planned stop: what is in flight is finished.

    In an embedded stack there is one proxy, and its edge drains with it. To take a version out of the
    traffic, give it no weight: `reflux route set`.
    """
    with _proxy(admin, data_dir, as_json=as_json) as (out, proxy):
        if not yes:
            raise wrong(f"the proxy at {proxy.url} serves nobody after this until it is restarted: add --yes")
        proxy.post("/drain_listeners?graceful")
        if as_json:
            out.json({"proxy": proxy.url, "draining": True})
        else:
            out.line(f"the proxy at {proxy.url} drains; stop it when its calls have ended")
