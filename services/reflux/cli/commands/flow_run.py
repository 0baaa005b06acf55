"""`reflux flow run`: start a run, and wait for it or watch it when asked to.

Every start has a request id, made here when none is given: asking again with it gives the same run. So a wait
longer than the API's is several calls, and a broken connection is told with what to repeat.
"""

import time
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, NamedTuple

import typer

from reflux.cli import completion, documents, exits, failures, spoken
from reflux.cli.commands.run_watch import follow
from reflux.cli.exits import Exit
from reflux.cli.failures import CommandError, wrong
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.session import SECONDS, Session, read, session
from reflux.core.reasons import Reason

_LONGEST_WAIT = timedelta(seconds=300)
"""Of one call; the API's own limit."""
_SURELY_REFUSED = (Reason.CONCURRENCY_LIMIT, Reason.RATE_LIMIT)
"""Decided in the transaction that would have accepted the run; of others nobody knows whether it was."""
_GOING_ON = ("QUEUED", "RUNNING", "CANCELING", "PAUSED")

Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        metavar="JSON|@FILE|-",
        help="The run's input: JSON itself, a file in JSON or YAML after @, or - for standard input.",
        show_default="{}",
    ),
]


class Trial(NamedTuple):
    """What makes a run a test."""

    test: bool
    faults: tuple[str, ...]
    seed: str


def run(
    *,
    name: Annotated[
        str, typer.Argument(metavar="FLOW", help="Its name or id.", autocompletion=completion.flows)
    ],
    given: Input = None,
    wait: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Wait so long for the end, such as 30s or 1h, and print the output."
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Show what happens until the run ends, as `run watch` does."),
    ] = False,
    request_id: Annotated[
        str | None,
        typer.Option(help="Start-once handle: the same one within 7 days gives the same run, not a new one."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Mark the run as a test, for good. With --fault it is one anyway.")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="What shall fail in this test run, such as step=charge,version=1.0.0,abort=UNAVAILABLE,"
            "percent=50; instead of abort also delay=2s or drop=reply. May be repeated.",
        ),
    ] = None,
    seed: Annotated[
        str, typer.Option(help="Which attempts the percentages hit: the same seed, the same faults.")
    ] = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Start a run of a flow's current version and print its id.

    With --wait the output is printed instead, and the exit status says how the run ended: 0 SUCCEEDED, 1
    FAILED or CANCELED, 6 PARKED, 7 when it still ran (then the id is printed). With --follow likewise.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        if wait is not None and watch:
            raise wrong("--wait prints the output at the end, --follow what happens until then: give one")
        seconds = _seconds(wait)
        body = read_input(given)
        handle = request_id or str(uuid.uuid4())
        trial = Trial(test or bool(fault), tuple(fault or ()), seed)
        answer = _execute(reflux, name, body, handle, seconds, trial=trial)
        if watch:
            _follow(reflux, answer)
        elif as_json:
            reflux.out.json(answer)
        elif wait is None or answer["state"] in _GOING_ON:
            reflux.out.line(answer["id"])
        if wait is None:
            return
        if not as_json:
            show_end(reflux, answer)
        raise typer.Exit(exits.of_run(answer["state"]))


def show_end(reflux: Session, answer: dict[str, Any]) -> None:
    """The output of a run that succeeded on stdout, or why it did not on stderr."""
    import orjson

    state = answer["state"]
    if state == "SUCCEEDED":
        reflux.out.raw(orjson.dumps(answer["output"], option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    reflux.out.note(f"reflux: run {answer['id']} is {state}")
    error = answer.get("error")
    if error:
        step = f"step {error['step']}: " if error["step"] else ""
        reflux.out.note(f"  {step}{error['reason']}: {error['message']}")
    waiting = answer.get("waiting")
    if waiting and not error:
        reflux.out.note(f"  {spoken.waiting(waiting)}")
    if state != "CANCELED":
        reflux.out.note(f"  see `reflux run why {answer['id']}`")


def _execute(
    reflux: Session,
    name: str,
    body: documents.Document | None,
    handle: str,
    seconds: float | None,
    *,
    trial: Trial,
) -> dict[str, Any]:
    """The run as it is when it was accepted, or when it has settled or the wait is over."""
    from reflux.api.run.v1.run_service_pb2 import ExecuteFlowRequest

    deadline = time.monotonic() + (seconds or 0)
    while True:
        left = deadline - time.monotonic()
        part = min(max(left, 0), _LONGEST_WAIT.total_seconds())
        request = ExecuteFlowRequest(
            flow_id=name,
            input=body.body() if body else None,
            request_id=handle,
            test=trial.test,
            faults=trial.faults,
            seed=trial.seed,
            wait="" if seconds is None else f"{round(part * 1000)}ms",
        )
        answer: dict[str, Any] = _call(reflux, request, SECONDS + part)
        if answer["state"] not in _GOING_ON or left <= part:
            return answer


def _call(reflux: Session, request: Any, timeout: float) -> dict[str, Any]:
    import grpc

    try:
        answer: dict[str, Any] = read(reflux.runs.ExecuteFlow(request, timeout=timeout))
    except grpc.RpcError as error:
        failure = failures.of_call(error, reflux.target)
        if failure.exit is not Exit.UNREACHABLE or failure.reason in _SURELY_REFUSED:
            raise
        hint = f"if it was accepted all the same, --request-id {request.request_id} gives that run again"
        hints = "\n  ".join(filter(None, (failure.hint, hint)))
        raise CommandError(replace(failure, hint=hints)) from error
    return answer


def _follow(reflux: Session, answer: dict[str, Any]) -> None:
    if not reflux.out.as_json:  # whoever stops watching wants to find it again
        reflux.out.note(f"run {answer['id']}")
    end = follow(reflux, answer["id"])
    if not reflux.out.as_json:
        show_end(reflux, end)
    raise typer.Exit(exits.of_run(end["state"]))


def read_input(given: str | None) -> documents.Document | None:
    """What `--input` names; None when it was not given."""
    if given is None:
        return None
    if given == documents.STDIN:
        return documents.read(given)
    if given.startswith("@"):
        return documents.read(given[1:])
    from reflux.runtime.documents import parse_json

    raw = given.encode(errors="surrogateescape")
    return documents.Document("--input", raw, documents.JSON, parse_json(raw, what="--input"))


def _seconds(wait: str | None) -> float | None:
    from reflux.core.flow.durations import parse_duration

    if wait is None:
        return None
    try:
        return parse_duration(wait).total_seconds()
    except ValueError as error:
        raise wrong(f"--wait: {error}") from None
