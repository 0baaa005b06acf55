"""`reflux flow step` and `reflux run step`: one step alone, in a run of its own."""

from typing import Annotated, Any

import typer

from reflux.cli import completion, documents, exits
from reflux.cli.commands.flow_run import read_input, show_end
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.session import SECONDS, Session, read, session

WAIT = "20s"
"""How long a command waits for the end of the step: less than the deadline of its call."""

Input = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="JSON|@FILE|-", help="The whole input of its node, instead of its `with`."
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        metavar="JSON|@FILE|-",
        help='What its expressions see: {"input": …, "steps": {"open": {"output": …}}}.',
    ),
]
FlowVersion = Annotated[str, typer.Option("--flow-version", metavar="VERSION", help="newest, or a number.")]
NodeVersion = Annotated[
    str, typer.Option("--version", metavar="VERSION", help="Version of its node; else as flow and route say.")
]
RequestId = Annotated[
    str, typer.Option(help="The same handle within 7 days gives the same run.", metavar="HANDLE")
]


def of_flow(
    name: Annotated[
        str, typer.Argument(metavar="FLOW", help="Its name or id.", autocompletion=completion.flows)
    ],
    step: Annotated[str, typer.Argument(metavar="STEP", help="Id of the step.")],
    *,
    given: Input = None,
    context: Context = None,
    flow_version: FlowVersion = "newest",
    node_version: NodeVersion = "",
    request_id: RequestId = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Execute one step of a flow alone, with all inside of it, and print its output.

    Exit status: 0 SUCCEEDED, 1 FAILED or CANCELED, 6 PARKED, 7 when it still runs after 20 s.
    """
    from reflux.api.operation.v1.operation_service_pb2 import ExecuteStepRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        document = _document(given, context, flow_version, node_version)
        request = ExecuteStepRequest(
            flow_id=name, step=step, document=document.body(), request_id=request_id, wait=WAIT
        )
        run = read(reflux.operations.ExecuteStep(request, timeout=SECONDS))
        _show(reflux, run)
        raise typer.Exit(exits.of_run(run["state"]))


def of_run(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Its id.", autocompletion=completion.runs)],
    step: Annotated[
        str,
        typer.Argument(
            metavar="STEP", help="Path of the step, e.g. lines[3]/price.", autocompletion=completion.steps
        ),
    ],
    *,
    given: Input = None,
    context: Context = None,
    flow_version: FlowVersion = "same",
    node_version: NodeVersion = "",
    request_id: RequestId = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Execute one step alone with what it saw in a run, and print its output. The run stays as it is.

    Exit status: 0 SUCCEEDED, 1 FAILED or CANCELED, 6 PARKED, 7 when it still runs after 20 s.
    """
    from reflux.api.operation.v1.operation_service_pb2 import ReplayStepRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        document = _document(given, context, flow_version, node_version)
        request = ReplayStepRequest(
            run_id=run_id, step=step, document=document.body(), request_id=request_id, wait=WAIT
        )
        run = read(reflux.operations.ReplayStep(request, timeout=SECONDS))
        _show(reflux, run)
        raise typer.Exit(exits.of_run(run["state"]))


def _document(
    given: str | None, context: str | None, flow_version: str, node_version: str
) -> documents.Document:
    """The StepExecution.

    Raises:
        CommandError: both an input and a context are given.
    """
    if given is not None and context is not None:
        raise wrong("--input is all that the node gets, --context is what its input is made of: give one")
    said: dict[str, Any] = {"flow_version": flow_version, "node_version": node_version}
    for name, text in (("input", given), ("context", context)):
        if (document := read_input(text)) is not None:
            said[name] = document.value
    return documents.of_value(said, "the execution")


def _show(reflux: Session, run: dict[str, Any]) -> None:
    if reflux.out.as_json:
        reflux.out.json(run)
    else:
        show_end(reflux, run)
