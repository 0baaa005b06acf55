"""`reflux run`: look at runs, watch them, cancel them, ask why, and say something to them."""

from typing import Annotated, Any

import typer

from reflux.cli import completion, documents, exits
from reflux.cli.bounds import bounds
from reflux.cli.commands import run_bulk, run_failures, run_operations, run_say, run_why
from reflux.cli.commands.flow_run import show_end
from reflux.cli.commands.run_watch import follow, get_run
from reflux.cli.exits import Exit
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, Server, Since, Tests, Until
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, all_pages, read, session, to_dict
from reflux.cli.spoken import ago, local, money, took

app = typer.Typer(
    no_args_is_help=True,
    help="List, look at, watch and cancel runs; ask why one went as it did; say something to one.",
)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id.", autocompletion=completion.runs)]
STATES = ("QUEUED", "RUNNING", "CANCELING", "SUCCEEDED", "FAILED", "CANCELED", "PARKED", "PAUSED")


@app.command("list")
def list_runs(
    *,
    flow: Annotated[
        str | None, typer.Option(help="Only of this flow, by name or id.", autocompletion=completion.flows)
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only in this state: {', '.join(STATES)}; repeatable.",
            autocompletion=lambda: [*STATES],
            metavar="STATE",
        ),
    ] = None,
    key: Annotated[str, typer.Option(help="Only with this key, as the flow's search_key makes it.")] = "",
    fingerprint: Annotated[
        str, typer.Option(help="Only with this failure, as `reflux run failures` shows it.")
    ] = "",
    trigger: Annotated[
        str, typer.Option(help="Only started by this trigger of the flow; needs --flow.")
    ] = "",
    origin: Annotated[str, typer.Option(metavar="RUN", help="Only those that go on from this run.")] = "",
    since: Since = None,
    until: Until = None,
    test: Tests = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from reflux.api.run.v1.run_service_pb2 import ListRunsRequest, Run

    with session(server, data_dir, as_json=as_json) as reflux:
        request = ListRunsRequest(
            flow_id=flow or "",
            key=key,
            fingerprint=fingerprint,
            trigger=trigger,
            origin_run_id=origin,
            test=test,
        )
        for each in state or ():
            if each.upper() not in STATES:
                raise wrong(f"--state {each}: a run is one of {', '.join(STATES)}")
            request.states.append(Run.State.Value(each.upper()))
        if len(request.states) == 1:  # what servers have understood from the beginning
            request.state = request.states.pop()
        for field, at in bounds(since, until).items():
            getattr(request, field).FromDatetime(at)
        runs = [to_dict(each) for each in all_pages(reflux.runs.ListRuns, request, "runs", limit=limit)]
        if as_json:
            reflux.out.json({"runs": runs})
            return
        columns = [
            Column("RUN"),
            Column("FLOW"),
            Column("VERSION", right=True),
            Column("STATE"),
            Column("AGE", right=True),
            Column("TOOK", right=True),
            Column("WHY", wraps=True),
        ]
        reflux.out.table(columns, map(_row, runs), empty="no run")


def _row(run: dict[str, Any]) -> tuple[object, ...]:
    error = run.get("error") or {}
    return (
        run["id"],
        run["flow_name"],
        run["flow_version"],
        run["state"],
        ago(run.get("create_time")),
        took(run.get("create_time"), run.get("finish_time")),
        " ".join(filter(None, ("(test)" if run["test"] else "", error.get("step"), error.get("reason")))),
    )


@app.command("get")
def get(run_id: RunId, server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show a run and its steps: which version was chosen, who answered, and what it waits for."""
    with session(server, data_dir, as_json=as_json) as reflux:
        run = get_run(reflux, run_id)
        steps = run_why.get_steps(reflux, run_id)
        if as_json:
            reflux.out.json({**run, "steps": steps})
            return
        error, waiting = run["error"] or {}, run["waiting"] or {}
        reflux.out.pairs(
            (
                ("run", run["id"]),
                ("flow", f"{run['flow_name']}, version {run['flow_version']}"),
                ("state", run["state"]),
                ("error", " ".join(filter(None, (error.get("reason"), error.get("message"))))),
                ("in step", error.get("step")),
                ("waits", waiting.get("why")),
                ("until", local(waiting.get("until"))),
                ("unresolved effects", ", ".join(run["unresolved_effects"])),
                ("priority", run.get("priority")),
                ("started by", run["actor"]),
                ("key", run.get("key")),
                ("made by", _origin(run.get("origin"))),
                ("created", local(run["create_time"])),
                ("took", took(run["create_time"], run["finish_time"])),
                ("cost", money(run.get("cost"))),
                ("input", _short(run["input"])),
                ("output", _short(run["output"])),
            )
        )
        reflux.out.line()
        run_why.show_steps(reflux.out, steps)


@app.command("watch")
def watch(
    run_id: RunId,
    after: Annotated[
        int, typer.Option(min=0, help="Only events after this sequence number.", metavar="SEQ")
    ] = 0,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what happens in a run until it ends; a lost connection is taken up where it broke.

    Exit status: 0 SUCCEEDED, 1 FAILED or CANCELED, 6 PARKED. With --json each event is a line.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        end = follow(reflux, run_id, after)
        if not as_json:
            show_end(reflux, end)
        raise typer.Exit(exits.of_run(end["state"]))


@app.command("cancel")
def cancel(
    run_id: RunId,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a run: once this returns no new attempt starts. Cancelling a finished run changes nothing.

    Exit status 7 when attempts in flight are still being settled.
    """
    from reflux.api.run.v1.run_service_pb2 import CancelRunRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        body = documents.of_value({"reason": reason}, "--reason").body() if reason else None
        request = CancelRunRequest(run_id=run_id, document=body)
        run = read(reflux.runs.CancelRun(request, timeout=SECONDS))
        if as_json:
            reflux.out.json(run)
        else:
            reflux.out.line(f"run {run['id']} is {run['state']}")
        if run["finish_time"] is None:
            raise typer.Exit(Exit.NOT_YET)


app.command("why")(run_why.why)
app.command("failures")(run_failures.failures)
app.command("bulk")(run_bulk.bulk)
run_operations.register(app)
run_say.register(app)


def _origin(origin: dict[str, Any] | None) -> str:
    if origin is None:
        return ""
    of = f" of run {origin['run_id']}" if origin["run_id"] else ""
    return f"{origin['operation']}{of}, from {', '.join(origin['steps'])}"


def _short(value: Any) -> str:
    import orjson

    if value is None:
        return ""
    text = orjson.dumps(value).decode()
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters; --json shows all)"
