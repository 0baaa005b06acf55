"""`reflux run bulk`: one operation with every run that matches, page by page."""

import uuid
from typing import Annotated, Any

import typer

from reflux.cli import completion, documents
from reflux.cli.bounds import bounds
from reflux.cli.commands.flow_run import read_input
from reflux.cli.commands.run_operations import pins
from reflux.cli.exits import Exit
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, Server, Since, Tests, Until
from reflux.cli.output import Column
from reflux.cli.session import Session, read, session

PAGE = 200
"""Runs in one call, so that each ends well before its deadline."""
PAGE_SECONDS = 300.0
_WHICH = "say which runs: --flow, --state, --since, --until, --key, --fingerprint, --trigger or --origin"


Flow = Annotated[str, typer.Option(help="Only of this flow, by name or id.", autocompletion=completion.flows)]
State = Annotated[list[str] | None, typer.Option(metavar="STATE", help="Only in this state; repeatable.")]
Expect = Annotated[
    int | None,
    typer.Option(min=0, help="Do it if at most so many match. Without it they are only counted and shown."),
]
Payload = Annotated[
    str | None, typer.Option(metavar="JSON|@FILE|-", help="Of a signal: what it brings to each run.")
]
FlowVersion = Annotated[
    str, typer.Option(metavar="VERSION", help="Of a retry or fork: same, newest, or a number.")
]
Versions = Annotated[
    list[str] | None,
    typer.Option("--version", metavar="STEP=VERSION", help="Of a retry or fork: this node version."),
]
RequestId = Annotated[
    str, typer.Option(metavar="HANDLE", help="With the same one no run is retried, forked or told twice.")
]


def bulk(
    operation: Annotated[
        str,
        typer.Argument(
            metavar="OPERATION", help="cancel, pause, resume, terminate, skip, signal, retry or fork."
        ),
    ],
    *,
    flow: Flow = "",
    state: State = None,
    since: Since = None,
    until: Until = None,
    key: Annotated[str, typer.Option(help="Only with this key.")] = "",
    fingerprint: Annotated[str, typer.Option(help="Only with this failure.")] = "",
    trigger: Annotated[str, typer.Option(help="Only started by this trigger; needs --flow.")] = "",
    origin: Annotated[str, typer.Option(metavar="RUN", help="Only those that go on from this run.")] = "",
    test: Tests = None,
    expect: Expect = None,
    reason: Annotated[str, typer.Option(help="Why, for the journal; not of a signal, retry or fork.")] = "",
    step: Annotated[str, typer.Option(metavar="STEP", help="Of a skip: the path of the step.")] = "",
    name: Annotated[str, typer.Option(help="Of a signal: its name, as a step waits for it.")] = "",
    payload: Payload = None,
    from_step: Annotated[str, typer.Option(metavar="STEP", help="Of a fork: from where to go on.")] = "",
    flow_version: FlowVersion = "",
    versions: Versions = None,
    request_id: RequestId = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Do one operation with every run that matches; what one run refuses is counted and stops nothing.

    Exit status 1 when a run refused it.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        created = bounds(since, until, repeatable=bool(request_id))
        which = {
            "flow_id": flow,
            "states": [each.upper() for each in state or ()],
            **{field: at.isoformat() for field, at in created.items()},
            "key": key,
            "fingerprint": fingerprint,
            "trigger": trigger,
            "origin_run_id": origin,
            "test": test,
        }
        arguments = {
            "reason": reason,
            "step": step,
            "name": name,
            "from_step": from_step,
            "flow_version": flow_version,
            "versions": pins(versions),
        }
        sent = read_input(payload)
        said = {
            "operation": operation,
            "filter": _given(which),
            "arguments": _given(arguments) | ({} if sent is None else {"payload": sent.value}),
            "limit": PAGE,
            **({"dry_run": True} if expect is None else {"dry_run": False, "expected_count": expect}),
        }
        if not said["filter"]:
            raise wrong(_WHICH)
        result = _all_pages(reflux, said, request_id or str(uuid.uuid4()))
        _show(reflux, result, dry_run=expect is None)
        if any(one["message"] for one in result["outcomes"]):
            raise typer.Exit(Exit.FAILED)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value or value is False}


def _all_pages(reflux: Session, said: dict[str, Any], request_id: str) -> dict[str, Any]:
    """The pages as one result."""
    from reflux.api.operation.v1.operation_service_pb2 import BulkRunsRequest

    body = documents.of_value(said, "the bulk").body()
    request = BulkRunsRequest(document=body, request_id=request_id)
    total: dict[str, Any] = {}
    outcomes: dict[str, dict[str, Any]] = {}
    while True:
        page = read(reflux.operations.BulkRuns(request, timeout=PAGE_SECONDS))
        total = {
            **page,
            "matched": total.get("matched", page["matched"]),
            "handled": total.get("handled", 0) + page["handled"],
            "runs": [*total.get("runs", []), *page["runs"]],
        }
        for one in page["outcomes"]:
            known = outcomes.setdefault(one["reason"], {**one, "count": 0})
            known["count"] += one["count"]
        total["outcomes"] = list(outcomes.values())
        request.page_token = page["next_page_token"]
        if not request.page_token:
            return total


def _show(reflux: Session, result: dict[str, Any], *, dry_run: bool) -> None:
    if reflux.out.as_json:
        reflux.out.json(result)
        return
    if dry_run:
        columns = [Column("RUN"), Column("STATE")]
        rows = [(one["run_id"], one["state"]) for one in result["runs"]]
        reflux.out.table(columns, rows, empty="no run matches")
        if result["matched"]:
            reflux.out.line(f"{result['matched']} runs match; do it with --expect {result['matched']}")
        return
    ended = [(one["reason"], one["count"], one["run_id"], one["message"]) for one in result["outcomes"]]
    columns = [Column("OUTCOME"), Column("RUNS", right=True), Column("SUCH AS"), Column("WHY", wraps=True)]
    reflux.out.table(columns, ended, empty="no run matches")
