"""`reflux trigger`: what starts runs. Triggers are part of a flow; schedules can be paused and fired."""

import uuid
from typing import Annotated, Any

import typer

from reflux.cli import completion
from reflux.cli.commands.flow_run import Input, read_input
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, Session, all_pages, read, session, to_dict
from reflux.cli.spoken import local

app = typer.Typer(
    no_args_is_help=True,
    help="What starts runs: webhooks, schedules, forms. They come and go with the flow that declares them.",
)

Flow = Annotated[
    str, typer.Argument(metavar="FLOW", help="Name or id of the flow.", autocompletion=completion.flows)
]
Trigger = Annotated[
    str, typer.Argument(metavar="ID", help="Its id within the flow.", autocompletion=completion.triggers)
]

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
            Column("WHAT"),
            Column("NEXT"),
            Column("LAST ERROR"),
        ]
        reflux.out.table(columns, map(_row, triggers), empty="no trigger")


@app.command("get")
def get(
    flow: Flow,
    trigger: Trigger,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one trigger of a flow: the URL to call, or when it fires and how it fared, or its form."""
    from reflux.api.trigger.v1.trigger_service_pb2 import GetTriggerRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = GetTriggerRequest(flow_id=flow, trigger_id=trigger)
        _show(reflux, to_dict(reflux.triggers.GetTrigger(request, timeout=SECONDS)))


@app.command("pause")
def pause(
    flow: Flow,
    trigger: Trigger,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Stop a schedule until it is resumed. What it would have fired meanwhile is not made up for."""
    from reflux.api.trigger.v1.trigger_service_pb2 import PauseTriggerRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = PauseTriggerRequest(flow_id=flow, trigger_id=trigger)
        _show(reflux, to_dict(reflux.triggers.PauseTrigger(request, timeout=SECONDS)))


@app.command("resume")
def resume(
    flow: Flow,
    trigger: Trigger,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused schedule fire again, from its next firing on."""
    from reflux.api.trigger.v1.trigger_service_pb2 import ResumeTriggerRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = ResumeTriggerRequest(flow_id=flow, trigger_id=trigger)
        _show(reflux, to_dict(reflux.triggers.ResumeTrigger(request, timeout=SECONDS)))


@app.command("fire")
def fire(
    *,
    flow: Flow,
    trigger: Trigger,
    given: Input = None,
    request_id: Annotated[
        str | None,
        typer.Option(help="Start-once handle: the same one within 7 days gives the same run, not a new one."),
    ] = None,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Start a run by hand and print its id: of a manual trigger with its form (--input), or of a schedule."""
    from reflux.api.trigger.v1.trigger_service_pb2 import FireTriggerRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        form = read_input(given)
        request = FireTriggerRequest(
            flow_id=flow,
            trigger_id=trigger,
            form=form.body() if form else None,
            request_id=request_id or str(uuid.uuid4()),
        )
        run = read(reflux.triggers.FireTrigger(request, timeout=SECONDS))
        if as_json:
            reflux.out.json(run)
        else:
            reflux.out.line(run["id"])


@app.command("preview")
def preview(
    *,
    flow: Flow,
    trigger: Trigger,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many firings.")] = 10,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show when a schedule will fire next, paused or not."""
    from reflux.api.trigger.v1.trigger_service_pb2 import PreviewTriggerRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = PreviewTriggerRequest(flow_id=flow, trigger_id=trigger, count=count)
        found = to_dict(reflux.triggers.PreviewTrigger(request, timeout=SECONDS))
        if as_json:
            reflux.out.json(found)
            return
        columns = [Column("SCHEDULED FOR"), Column("STARTED AT")]
        rows = [(local(each["scheduled_for"]), local(each["fire_time"])) for each in found["firings"]]
        reflux.out.table(columns, rows, empty="it never fires")


def _show(reflux: Session, found: dict[str, Any]) -> None:
    """One trigger, as its type has it."""
    if reflux.out.as_json:
        reflux.out.json(found)
        return
    pairs: list[tuple[str, object]] = [
        ("trigger", found["id"]),
        ("flow", f"{found['flow_name']}, version {found['flow_version']}"),
        ("type", found["type"].lower()),
    ]
    schedule = found.get("schedule")
    if schedule is not None:
        pairs += _schedule(schedule)
    elif found["type"] == "WEBHOOK":
        pairs += [
            ("call", f"{found['method']} http://{reflux.target.address}{found['path']}"),
            ("auth", found["auth"]),
            ("answers with", _ANSWERS.get(found["response"], found["response"])),
        ]
    else:
        pairs += [("title", found["title"]), ("description", found["description"]), ("form", found["form"])]
    reflux.out.pairs((*pairs, ("since", local(found.get("create_time")))))


def _schedule(schedule: dict[str, Any]) -> list[tuple[str, object]]:
    last, error = schedule.get("last", {}), schedule.get("last_error", {})
    counts = ", ".join(
        f"{schedule[f'{name}_count']} {name}"
        for name in ("fired", "skipped", "missed", "failed")
        if int(schedule[f"{name}_count"])
    )
    return [
        ("fires", _when(schedule)),
        ("next", _next(schedule)),
        ("last", local(last.get("scheduled_for"))),
        ("last run", schedule["last_run_id"]),
        ("last error", " ".join(filter(None, (error.get("reason"), error.get("message"))))),
        ("of the firing", local(error.get("scheduled_for"))),
        ("so far", counts),
        ("catchup", schedule["catchup"]),
        ("overlap", schedule["overlap"]),
        ("jitter", "" if schedule["jitter"] == "0s" else schedule["jitter"]),
    ]


def _when(schedule: dict[str, Any]) -> str:
    return f"{schedule['cron']} {schedule['timezone']}" if schedule["cron"] else f"every {schedule['every']}"


def _next(schedule: dict[str, Any]) -> str:
    return "paused" if schedule["paused"] else str(local(schedule.get("next", {}).get("fire_time")))


def _row(trigger: dict[str, Any]) -> tuple[object, ...]:
    schedule = trigger.get("schedule")
    auth = ", hmac" if trigger["auth"] == "hmac" else ""
    what = f"{trigger['method']} {trigger['path']}{auth}" if trigger["path"] else trigger["title"]
    return (
        trigger["flow_name"],
        trigger["id"],
        trigger["type"].lower(),
        what if schedule is None else _when(schedule),
        "" if schedule is None else _next(schedule),
        "" if schedule is None else schedule.get("last_error", {}).get("reason", ""),
    )
