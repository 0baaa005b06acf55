"""`reflux run fork`, `retry`: going on from a run, in a new one."""

from typing import Annotated, Any

import typer

from reflux.cli import completion, documents
from reflux.cli.commands import step_execute
from reflux.cli.commands.flow_run import read_input
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, Session, read, session

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id.", autocompletion=completion.runs)]
FlowVersion = Annotated[
    str, typer.Option("--flow-version", metavar="VERSION", help="same, newest, or a number.")
]
Versions = Annotated[
    list[str] | None,
    typer.Option("--version", metavar="STEP=VERSION", help="Call this node version in a step; repeatable."),
]
RequestId = Annotated[
    str, typer.Option(help="The same handle within 7 days gives the same new run.", metavar="HANDLE")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what is kept and what is done anew.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `reflux run`."""
    app.command("fork")(fork)
    app.command("retry")(retry)
    app.command("step")(step_execute.of_run)


def fork(
    run_id: RunId,
    step: Annotated[
        str,
        typer.Argument(
            metavar="STEP", help="From where to go on, e.g. lines[3]/price.", autocompletion=completion.steps
        ),
    ],
    *,
    flow_version: FlowVersion = "same",
    versions: Versions = None,
    given: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON|@FILE|-", help="Another input; else that of the run."),
    ] = None,
    dry_run: DryRun = False,
    request_id: RequestId = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Go on from a step in a new run: it and what comes after it are done anew, everything else is kept."""
    from reflux.api.operation.v1.operation_service_pb2 import ForkRunRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        how: dict[str, Any] = {
            "from_step": step,
            "flow_version": flow_version,
            "versions": pins(versions),
            "dry_run": dry_run,
        }
        if (document := read_input(given)) is not None:
            how["input"] = document.value
        body = documents.of_value(how, "the fork").body()
        request = ForkRunRequest(run_id=run_id, document=body, request_id=request_id)
        _show(reflux, read(reflux.operations.ForkRun(request, timeout=SECONDS)))


def retry(
    run_id: RunId,
    *,
    flow_version: FlowVersion = "same",
    versions: Versions = None,
    dry_run: DryRun = False,
    request_id: RequestId = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Do again what made a run fail, or what its cancel cut off, in a new run; the rest is kept."""
    from reflux.api.operation.v1.operation_service_pb2 import RetryRunRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        how = {"flow_version": flow_version, "versions": pins(versions), "dry_run": dry_run}
        body = documents.of_value(how, "the retry").body()
        request = RetryRunRequest(run_id=run_id, document=body, request_id=request_id)
        _show(reflux, read(reflux.operations.RetryRun(request, timeout=SECONDS)))


def pins(given: list[str] | None) -> dict[str, str]:
    """`STEP=VERSION`, each as an entry.

    Raises:
        CommandError: one has another form.
    """
    found: dict[str, str] = {}
    for text in given or ():
        step, equals, version = text.partition("=")
        if not (step and equals and version):
            raise wrong(f"--version {text}: write STEP=VERSION, such as charge=2.0.0")
        found[step] = version
    return found


def _show(reflux: Session, forked: dict[str, Any]) -> None:
    """The new run, and what it took over."""
    if reflux.out.as_json:
        reflux.out.json(forked)
        return
    run, plan = forked["run"], forked["plan"]
    if run is not None:
        reflux.out.line(f"run {run['id']} is {run['state']}")
    if plan is None:
        reflux.out.line("the same request id had made it before")
        return
    rows = [(one["step"], "kept", one["state"], _kept(one, plan)) for one in plan["kept"]]
    rows += [(one["step"], "anew", one["state"], _anew(one)) for one in plan["anew"]]
    columns = [Column("STEP"), Column("OUTCOME"), Column("WAS"), Column("WHY", wraps=True)]
    reflux.out.table(columns, rows, empty="nothing is kept")
    left = plan["kept_count"] + plan["anew_count"] - len(rows)
    if left:
        reflux.out.line(f"and {left} more steps")


def _kept(one: dict[str, Any], plan: dict[str, Any]) -> str:
    notes = []
    if one["run_id"] != plan["run_id"]:
        notes.append(f"from run {one['run_id']}")
    if one["changed"]:
        notes.append("its definition has changed since")
    return ", ".join(notes)


def _anew(one: dict[str, Any]) -> str:
    return f"{one['why']}{', may repeat an outside effect' if one['repeats_effect'] else ''}"
