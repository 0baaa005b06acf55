"""`reflux trigger`: what starts runs without anybody asking. Triggers are part of a flow's document."""

from typing import Annotated, Any

import typer

from reflux.cli import completion
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, all_pages, session, to_dict
from reflux.cli.spoken import local

app = typer.Typer(
    no_args_is_help=True,
    help="What starts runs: webhooks. They come and go with the flow that declares them.",
)

_ANSWERS = {"ACCEPTED": "the run's id", "RUN": "the run's output"}


@app.command("list")
def list_triggers(
    flow: Annotated[
        str | None, typer.Option(help="Only of this flow, by name or id.", autocompletion=completion.flows)
    ] = None,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List triggers by flow and id."""
    from reflux.api.trigger.v1.trigger_service_pb2 import ListTriggersRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = ListTriggersRequest(flow_id=flow or "")
        triggers = [to_dict(each) for each in all_pages(reflux.triggers.ListTriggers, request, "triggers")]
        if as_json:
            reflux.out.json({"triggers": triggers})
            return
        columns = [
            Column("FLOW"),
            Column("TRIGGER"),
            Column("TYPE"),
            Column("METHOD"),
            Column("PATH"),
            Column("AUTH"),
            Column("ANSWERS WITH"),
        ]
        reflux.out.table(columns, map(_row, triggers), empty="no trigger")


@app.command("get")
def get(
    flow: Annotated[
        str, typer.Argument(metavar="FLOW", help="Name or id of the flow.", autocompletion=completion.flows)
    ],
    trigger: Annotated[
        str,
        typer.Argument(metavar="ID", help="Its id within the flow.", autocompletion=completion.triggers),
    ],
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one trigger of a flow, with the URL to call."""
    from reflux.api.trigger.v1.trigger_service_pb2 import GetTriggerRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = GetTriggerRequest(flow_id=flow, trigger_id=trigger)
        found = to_dict(reflux.triggers.GetTrigger(request, timeout=SECONDS))
        if as_json:
            reflux.out.json(found)
            return
        reflux.out.pairs(
            (
                ("trigger", found["id"]),
                ("flow", f"{found['flow_name']}, version {found['flow_version']}"),
                ("type", found["type"].lower()),
                ("call", f"{found['method']} http://{reflux.target.address}{found['path']}"),
                ("auth", found["auth"]),
                ("answers with", _ANSWERS.get(found["response"], found["response"])),
                ("since", local(found.get("create_time"))),
            )
        )


def _row(trigger: dict[str, Any]) -> tuple[object, ...]:
    return (
        trigger["flow_name"],
        trigger["id"],
        trigger["type"].lower(),
        trigger["method"],
        trigger["path"],
        trigger["auth"],
        _ANSWERS.get(trigger["response"], trigger["response"]),
    )
