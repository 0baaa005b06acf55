"""`reflux route set`: a whole document, or only new shares; never over what somebody else has changed.

The short form `VERSION=PERCENT …` names the whole distribution: what is not named gets nothing of it, and
stays a target, so that the order of the targets (which keeps sticky users where they are), fallbacks and
tries stay as they were. Percent may have two decimals, down to a basis point.
"""

import re
import secrets
from decimal import Decimal
from typing import Annotated, Any

import typer

from reflux.cli import completion, documents, failures, spoken
from reflux.cli.exits import Exit
from reflux.cli.failures import CommandError, wrong
from reflux.cli.options import AsJson, DataDir, IgnoreContracts, Server
from reflux.cli.output import Column, Output
from reflux.cli.session import SECONDS, Session, session, to_dict

PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)%?", re.ASCII)
_TOTAL = 10_000

_Fallback = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VERSION:NEXT,…",
        help="Versions tried after VERSION, in order; `VERSION:` for none. May be given again.",
    ),
]
_Tries = Annotated[
    list[str] | None,
    typer.Option(metavar="VERSION:N", help="Tries of VERSION before the next one. May be given again."),
]
_TryTimeout = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VERSION:DURATION",
        help="Limit of one try, such as 2s; `VERSION:` for none. May be given again.",
    ),
]
_Limit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VERSION:N",
        help="Calls of VERSION at once; one more goes to the next version. `VERSION:` for no limit.",
    ),
]
_Pending = Annotated[
    list[str] | None,
    typer.Option(metavar="VERSION:N", help="Of them, calls that wait for a connection; likewise."),
]


def set_route(
    *,
    node: Annotated[str, typer.Argument(metavar="NODE", help="Its name.", autocompletion=completion.nodes)],
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VERSION=PERCENT...|FILE",
            help="Shares that sum to 100, such as 1.0.0=90 2.0.0=10; or a route in JSON or YAML (-: stdin).",
            autocompletion=completion.shares,
        ),
    ] = None,
    fallback: _Fallback = None,
    tries: _Tries = None,
    try_timeout: _TryTimeout = None,
    limit: _Limit = None,
    pending: _Pending = None,
    sticky: Annotated[
        str | None,
        typer.Option(help="What keeps calls with one version, such as input.customer; `` for nothing."),
    ] = None,
    reshuffle: Annotated[bool, typer.Option("--reshuffle", help="Deal sticky values anew.")] = False,
    note: Annotated[str | None, typer.Option(help="Why, in your words; kept with the revision.")] = None,
    ignore_contracts: IgnoreContracts = False,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change a node's route, live; answers when Envoy serves it.

    Shares alone keep everything else as it is; a version that is not named gets 0. Exit status 4: somebody
    else changed the route meanwhile, and nothing happened. 7: some proxies have not answered yet. 1: one
    refused the route, or a version would take calls of flows that it does not fit; the former route serves
    on.

    [bold]reflux route set http.request 1.0.0=90 2.0.0=10 --fallback 2.0.0:1.0.0 --note "try the new one"[/]
    """
    from reflux.api.routing.v1.routing_service_pb2 import UpdateRouteRequest

    changes = [*(fallback or ()), *(tries or ()), *(try_timeout or ())]
    changes += [*(limit or ()), *(pending or ())]
    changes += ["sticky"] * (sticky is not None) + ["salt"] * reshuffle
    with session(server, data_dir, as_json=as_json) as reflux:
        given = what or []
        shares = all("=" in each for each in given)
        if not given and not changes:
            raise wrong("say what to set: shares such as 1.0.0=90 2.0.0=10, a file, or an option")
        if not shares and (len(given) > 1 or changes):
            raise wrong("give either shares (VERSION=PERCENT) with options, or one file with everything")
        present = _present(reflux, node)
        if shares:
            route = document_of(present)
            _set_shares(route, given)
            _set_chains(route, fallback or [], tries or [], try_timeout or [])
            _set_limits(route, "--limit", "max_requests", limit or [])
            _set_limits(route, "--pending", "max_pending", pending or [])
            _set_sticky(route, sticky, reshuffle=reshuffle)
            document = documents.of_value({**route, "note": note or ""}, "the route")
        else:
            document = _from_file(given[0], present["revision"], note)
        request = UpdateRouteRequest(node=node, document=document.body(), ignore_contracts=ignore_contracts)
        show_applied(reflux, _update(reflux, request, document))


def get_route(reflux: Session, node: str, revision: int | None = None) -> dict[str, Any]:
    """The route that serves, or one of its revisions."""
    from reflux.api.routing.v1.routing_service_pb2 import GetRouteRequest, GetRouteRevisionRequest

    if revision is None:
        return to_dict(reflux.routes.GetRoute(GetRouteRequest(node=node), timeout=SECONDS))
    request = GetRouteRevisionRequest(node=node, revision=revision)
    return to_dict(reflux.routes.GetRouteRevision(request, timeout=SECONDS))


def document_of(route: dict[str, Any]) -> dict[str, Any]:
    """What a person writes of a route. With its revision: putting it back overwrites nobody's change."""
    targets = [
        {
            key: value
            for key, value in target.items()
            if value not in ([], None) and (key, value) != ("shadow", 0)
        }
        for target in route["targets"]
    ]
    own = {key: route[key] for key in ("sticky", "salt") if route.get(key)}
    return {"node": route["node"], "revision": route["revision"], "targets": targets, **own}


def show_targets(out: Output, route: dict[str, Any]) -> None:
    """A line for each target."""
    columns = [
        Column("VERSION"),
        Column("SHARE", right=True),
        Column("FALLBACK"),
        Column("TRIES", right=True),
        Column("TRY TIMEOUT", right=True),
        Column("SHADOW", right=True),
        Column("LIMIT", right=True),
        Column("EJECTED"),
    ]
    rows = [
        (
            target["version"],
            spoken.percent(target["weight"]),
            " → ".join(target["fallback"]),
            target["tries"] or 1,
            target.get("try_timeout") or "",
            spoken.percent(target["shadow"]) if target.get("shadow") else "",
            spoken.limits(target.get("limits")),
            spoken.ejection(target.get("ejection")),
        )
        for target in route["targets"]
    ]
    out.table(columns, rows)


def show_applied(reflux: Session, route: dict[str, Any], remark: str = "") -> None:
    """A route after its change; ends the command when it does not stand everywhere yet."""
    if reflux.out.as_json:
        reflux.out.json(route)
    else:
        said = f"; {remark}" if remark else ""
        reflux.out.line(f"route of {route['node']}: revision {route['revision']} is {route['state']}{said}")
        if route["waiting_for"]:
            reflux.out.note(f"not acknowledged yet by: {', '.join(route['waiting_for'])}")
        show_targets(reflux.out, route)
    if route["state"] != "APPLIED":
        raise typer.Exit(Exit.NOT_YET)


def _present(reflux: Session, node: str) -> dict[str, Any]:
    """The route as it is; one without targets when the node has none yet."""
    import grpc

    try:
        return get_route(reflux, node)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return {"node": node, "revision": 0, "targets": []}


def _update(reflux: Session, request: Any, document: documents.Document) -> dict[str, Any]:
    import grpc

    try:
        return to_dict(reflux.routes.UpdateRoute(request, timeout=SECONDS))
    except grpc.RpcError as error:
        failure = failures.of_call(error, reflux.target)
        raise CommandError(failures.with_lines(failure, document)) from error


def _from_file(file: str, revision: int, note: str | None) -> documents.Document:
    """The file as it is; with the present revision when it names none, and with `note` when there is one."""
    document = documents.read(file)
    if not isinstance(document.value, dict) or ("revision" in document.value and note is None):
        return document
    value = {"revision": revision, **document.value} | ({} if note is None else {"note": note})
    made = documents.of_value(value, document.name)
    # What is sent was put together here; places are those of the file.
    return documents.Document(document.name, made.raw, made.content_type, value, document.raw)


def _set_shares(route: dict[str, Any], given: list[str]) -> None:
    if not given:
        return
    shares: dict[str, int] = {}
    for each in given:
        version, _, text = each.rpartition("=")
        percent = PERCENT.fullmatch(text)
        if not version or percent is None:
            raise wrong(f"{each}: a share is VERSION=PERCENT with at most two decimals, such as 1.0.0=12.5")
        if version in shares:
            raise wrong(f"{each}: {version} has a share already; name it once")
        shares[version] = int(Decimal(percent[1]) * 100)
    if sum(shares.values()) != _TOTAL:
        raise wrong(f"the shares sum to {spoken.percent(sum(shares.values()))}; they must sum to 100 %")
    for target in route["targets"]:
        target["weight"] = shares.pop(target["version"], 0)
        if target["weight"]:
            target.pop("shadow", None)  # it answers itself now
    route["targets"] += [{"version": version, "weight": weight} for version, weight in shares.items()]


def _set_chains(route: dict[str, Any], fallback: list[str], tries: list[str], try_timeout: list[str]) -> None:
    targets = {target["version"]: target for target in route["targets"]}
    for each in fallback:
        target, value = _target_of(targets, "--fallback", each)
        target["fallback"] = [name.strip() for name in value.split(",") if name.strip()]
    for each in tries:
        target, value = _target_of(targets, "--tries", each)
        if not (value.isascii() and value.isdigit()):
            raise wrong(f"--tries {each}: VERSION:N, such as 1.0.0:2")
        target["tries"] = int(value)
    for each in try_timeout:
        target, value = _target_of(targets, "--try-timeout", each)
        target.pop("try_timeout", None)
        if value:
            target["try_timeout"] = _proto_duration(each, value)


def _set_limits(route: dict[str, Any], option: str, name: str, given: list[str]) -> None:
    targets = {target["version"]: target for target in route["targets"]}
    for each in given:
        target, value = _target_of(targets, option, each)
        if value and not (value.isascii() and value.isdigit()):
            raise wrong(f"{option} {each}: VERSION:N, such as 1.0.0:20")
        limits = {**(target.pop("limits", None) or {}), name: int(value or 0)}
        if any(limits.values()):
            target["limits"] = limits


def _set_sticky(route: dict[str, Any], sticky: str | None, *, reshuffle: bool) -> None:
    if sticky is not None:
        route["sticky"] = sticky
    if reshuffle:
        route["salt"] = secrets.token_hex(8)


def _target_of(targets: dict[str, dict[str, Any]], option: str, text: str) -> tuple[dict[str, Any], str]:
    version, colon, value = text.partition(":")
    if not colon or not version:
        raise wrong(f"{option} {text}: write VERSION:VALUE, such as 2.0.0:1.0.0")
    if version not in targets:
        known = ", ".join(targets) or "none"
        raise wrong(f"{option} {text}: {version} is no target of this route; it has {known}")
    return targets[version], value


def _proto_duration(text: str, value: str) -> str:
    """A duration of people as proto3 JSON writes it: `250ms` as `0.25s`."""
    from reflux.core.flow.durations import parse_duration

    try:
        return f"{parse_duration(value).total_seconds():.3f}s"
    except ValueError as error:
        raise wrong(f"--try-timeout {text}: {error}") from None
