"""`reflux run failures`: which failures there are, and how many runs have each."""

from typing import Annotated, Any

import typer

from reflux.cli import completion
from reflux.cli.bounds import bounds
from reflux.cli.options import AsJson, DataDir, Server, Until
from reflux.cli.output import Column
from reflux.cli.session import all_pages, session, to_dict
from reflux.cli.spoken import ago


def failures(
    *,
    flow: Annotated[
        str, typer.Option(help="Only of this flow, by name or id.", autocompletion=completion.flows)
    ] = "",
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION|TIME",
            help="Only of runs created since, such as 15m; else of the 30 days before --until or now.",
        ),
    ] = None,
    until: Until = None,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the failures of runs that FAILED or are PARKED, the most frequent first.

    A fingerprint finds the runs: `reflux run list --fingerprint …`.
    """
    from reflux.api.operation.v1.operation_service_pb2 import ListFingerprintsRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = ListFingerprintsRequest(flow_id=flow)
        for field, at in bounds(since, until).items():
            getattr(request, field).FromDatetime(at)
        groups = all_pages(reflux.operations.ListFingerprints, request, "fingerprints")
        found = sorted(map(to_dict, groups), key=lambda group: -int(group["count"]))
        if as_json:
            reflux.out.json({"fingerprints": found})
            return
        columns = [
            Column("FINGERPRINT"),
            Column("RUNS", right=True),
            Column("FIRST", right=True),
            Column("LAST", right=True),
            Column("FLOW"),
            Column("STEP"),
            Column("WHY", wraps=True),
        ]
        reflux.out.table(columns, map(_row, found), empty="no failure")


def _row(group: dict[str, Any]) -> tuple[object, ...]:
    example = group.get("example") or {}
    error = example.get("error") or {}
    return (
        group["fingerprint"],
        group["count"],
        ago(group.get("first_time")),
        ago(group.get("last_time")),
        example.get("flow_name", ""),
        error.get("step", ""),
        f"{error.get('reason', '')}: {error.get('message', '')}",
    )
