"""`reflux status`: whether the stack is there and well, and what it is doing.

Of a stack on this machine everything is known (parts, ports, URLs, from `run/stack.json`); of another server,
what its API says. The parts are shown even when the API does not answer: that is when one wants to see them.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import typer

from reflux.cli import failures, spoken
from reflux.cli.commands.node import all_versions, share_of
from reflux.cli.exits import Exit
from reflux.cli.failures import Failure
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column, Output
from reflux.cli.session import SECONDS, Session, all_pages, session, to_dict

_COUNTED: Final = 100
"""Runs of a state that are counted; more are said as `100+`."""
_STATES: Final = ("RUNNING", "CANCELING", "PAUSED", "PARKED", "SUCCEEDED", "FAILED", "CANCELED")


def status(server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the stack, its URLs, its node versions, routes on their way, and how many runs there are.

    Exit status: 0 all is well; 1 a part is not ready, a version that gets traffic has no live endpoint, or a
    route is not APPLIED; 5 nothing answers.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        stack = reflux.target.stack
        parts = [_part(each) for each in stack["parts"].values()] if stack else []
        api, failure = _ask(reflux)
        document = {
            "server": reflux.target.address,
            "source": reflux.target.source,
            "stack": _stack(reflux, parts),
            "api": api,
            "trouble": _trouble(parts, api),
        }
        if as_json:
            reflux.out.json(document)
        else:
            _show(reflux.out, document)
        if failure is not None:
            reflux.out.failure(failure)
            raise typer.Exit(failure.exit)
        if document["trouble"]:
            raise typer.Exit(Exit.FAILED)


def _ask(reflux: Session) -> tuple[dict[str, Any] | None, Failure | None]:
    """What the API says, or why it says nothing."""
    import grpc

    from reflux.api.routing.v1.routing_service_pb2 import ListRoutesRequest

    try:
        routes = all_pages(reflux.routes.ListRoutes, ListRoutesRequest(), "routes")
        return {
            "versions": all_versions(reflux),
            "routes": [to_dict(route) for route in routes],
            "runs": {state: _count(reflux, state) for state in _STATES},
        }, None
    except grpc.RpcError as error:
        return None, failures.of_call(error, reflux.target)


def _count(reflux: Session, state: str) -> dict[str, Any]:
    from reflux.api.run.v1.run_service_pb2 import ListRunsRequest, Run

    request = ListRunsRequest(state=Run.State.Value(state), page_size=_COUNTED)
    page = reflux.runs.ListRuns(request, timeout=SECONDS)
    return {"count": len(page.runs), "more": bool(page.next_page_token)}


def _stack(reflux: Session, parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    stack = reflux.target.stack
    if stack is None:
        return None
    return {
        "data_dir": str(reflux.target.folder),
        "pid": stack["pid"],
        "up": stack["up"],
        "uptime_seconds": uptime(stack["pid"]),
        "urls": stack["urls"],
        "ports": stack["ports"],
        "parts": parts,
    }


def _part(status: dict[str, Any]) -> dict[str, Any]:
    shown = {key: status[key] for key in ("name", "state", "pid", "restarts")}
    return {**shown, "uptime_seconds": uptime(status["pid"])}


def uptime(pid: int | None) -> float | None:
    """Seconds since a process began; None where the system does not say.

    From `/proc`: field 22 of `stat` is the start in clock ticks since the machine came up (proc(5)).
    """
    if not pid:
        return None
    try:
        # The name of the program, field 2, may hold blanks and parentheses; what follows it does not.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        since_boot = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return round(max(since_boot - int(fields[19]) / os.sysconf("SC_CLK_TCK"), 0.0), 1)
    except (OSError, ValueError, IndexError):
        return None


def _trouble(parts: list[dict[str, Any]], api: dict[str, Any] | None) -> list[str]:
    """What is not well, in words."""
    found = [f"part {part['name']} is {part['state']}" for part in parts if part["state"] != "ready"]
    if api is None:
        return [*found, "the API does not answer"]
    found += [
        f"{each['node']}@{each['version']} gets {share_of(each)} of the traffic and has no live endpoint"
        for each in api["versions"]
        if not each["endpoints"] and each["target"] and each["target"]["weight"]
    ]
    for route in api["routes"]:
        if route["state"] != "APPLIED":
            waiting = f", waiting for {', '.join(route['waiting_for'])}" if route["waiting_for"] else ""
            refused = f": {route['refusal']}" if route["refusal"] else ""
            found.append(f"the newest route of {route['node']} is {route['state']}{waiting}{refused}")
    return found


def _show(out: Output, document: dict[str, Any]) -> None:
    stack, api = document["stack"], document["api"]
    out.pairs(
        (
            ("server", f"{document['server']} ({document['source']})"),
            *((f"{name} url", url) for name, url in (stack["urls"] if stack else {}).items()),
            *((("data", stack["data_dir"]), ("up for", _long(stack["uptime_seconds"]))) if stack else ()),
        )
    )
    if stack:
        out.line()
        columns = [
            Column("PART"),
            Column("STATE"),
            Column("PID", right=True),
            Column("RESTARTS", right=True),
            Column("UP FOR", right=True),
        ]
        out.table(
            columns,
            [
                (part["name"], part["state"], part["pid"], part["restarts"], _long(part["uptime_seconds"]))
                for part in stack["parts"]
            ],
        )
    if api is not None:
        _show_api(out, api)
    if document["trouble"]:
        out.line()
        for each in document["trouble"]:
            out.line(f"! {each}", "yellow")


def _show_api(out: Output, api: dict[str, Any]) -> None:
    out.line()
    columns = [
        Column("NODE"),
        Column("VERSION"),
        Column("STATE"),
        Column("ENDPOINTS", right=True),
        Column("SHARE", right=True),
    ]
    rows = [
        (each["node"], each["version"], each["state"], len(each["endpoints"]), share_of(each))
        for each in api["versions"]
    ]
    out.table(columns, rows, empty="no node is registered")
    out.line()
    counts = {state: f"{of['count']}{'+' if of['more'] else ''}" for state, of in api["runs"].items()}
    titles = [Column("RUNS"), *(Column(state, right=True) for state in counts)]
    out.table(titles, [("", *counts.values())])


def _long(seconds: float | None) -> str:
    return "" if seconds is None else spoken.span(timedelta(seconds=seconds))
