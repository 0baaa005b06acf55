"""`reflux run …`: say something to a run in progress: signals, answers, pauses, decisions about its steps.

Every call has a handle, made here when none is given, so that a call which was not answered can be repeated.
"""

import uuid
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from reflux.cli import completion, documents
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.session import SECONDS, Session, read, session, to_dict
from reflux.cli.spoken import local

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Its id.", autocompletion=completion.runs)]
Step = Annotated[
    str,
    typer.Argument(metavar="STEP", help="Its path, such as lines[3]/ok.", autocompletion=completion.steps),
]
Reason = Annotated[str, typer.Option(help="Why, for the journal.")]
Given = Annotated[
    str | None,
    typer.Option(metavar="JSON|@FILE|-", help="JSON itself, a file after @, or - for standard input."),
]


Where: TypeAlias = tuple[str | None, Path | None, bool]
"""The server, the data folder, and whether programs read the answer."""


class What(StrEnum):
    """What becomes of a PARKED step."""

    CONFIRM = "confirm"
    RETRY = "retry"
    FALL_BACK = "fall_back"
    FAIL = "fail"


def register(app: typer.Typer) -> None:
    """Adds the commands to `reflux run`."""
    for name, command in (
        ("signal", signal),
        ("send", send),
        ("answer", answer),
        ("token", token),
        ("pause", pause),
        ("resume", resume),
        ("terminate", terminate),
        ("skip", skip),
        ("complete", complete),
    ):
        app.command(name)(command)


def signal(
    run_id: RunId,
    name: Annotated[str, typer.Argument(help="Its name, as a step of the flow waits for it.")],
    *,
    payload: Given = None,
    signal_id: Annotated[str, typer.Option("--id", help="Exactly-once handle within the run.")] = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send a signal to a run. Without a step that waits for it yet, it is kept for one that will."""
    with session(server, data_dir, as_json=as_json) as reflux:
        said = {"name": name, "signal_id": signal_id or str(uuid.uuid4()), **_json("payload", payload)}
        receipt = _say(reflux, "SignalRun", said, run_id=run_id)
        if as_json:
            reflux.out.json(receipt)
        elif receipt["step"]:
            reflux.out.line(f"step {receipt['step']} took it")
        else:
            reflux.out.line("no step waits for it yet: it is kept")


def send(
    name: Annotated[str, typer.Argument(help="Its name.")],
    *,
    key: Annotated[str, typer.Option(help="The correlation key, as a step's wait.key gives it.")],
    payload: Given = None,
    signal_id: Annotated[str, typer.Option("--id", help="Exactly-once handle, for 24 hours.")] = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send a signal to every run that waits for it under a key; without one it is kept for 24 hours."""
    with session(server, data_dir, as_json=as_json) as reflux:
        said = {"key": key, "signal_id": signal_id or str(uuid.uuid4()), **_json("payload", payload)}
        receipt = _say(reflux, "SendSignal", said, signal=name)
        if as_json:
            reflux.out.json(receipt)
            return
        for run_id in receipt["run_ids"]:
            reflux.out.line(run_id)
        if not receipt["run_ids"]:
            reflux.out.note(f"nobody waits for it: it is kept until {local(receipt['keep_time'])}")


def answer(
    run_id: RunId,
    step: Step,
    *,
    approve: Annotated[bool, typer.Option("--approve", help="Say yes to it.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Say no to it.")] = False,
    form: Given = None,
    comment: Annotated[str, typer.Option(help="For people.")] = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Approve or reject what a step asks. The first answer counts; `reflux run get` shows what is asked."""
    with session(server, data_dir, as_json=as_json) as reflux:
        if approve == reject:
            raise wrong("say --approve or --reject, and not both")
        said = {"approved": approve, "comment": comment, "request_id": str(uuid.uuid4())}
        _show(reflux, _say(reflux, "AnswerStep", said | _json("form", form), run_id=run_id, step=step))


def token(
    run_id: RunId,
    step: Step,
    *,
    link: Annotated[bool, typer.Option("--link", help="The link to the page that asks, instead.")] = False,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the token with which somebody else can answer a step. Whoever has it can: keep it out of logs."""
    from reflux.api.run.v1.run_service_pb2 import GetApprovalTokenRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = GetApprovalTokenRequest(run_id=run_id, step=step)
        made = to_dict(reflux.runs.GetApprovalToken(request, timeout=SECONDS))
        if as_json:
            reflux.out.json(made)
        elif link:  # under the address this command uses: who is outside may need another one
            reflux.out.line(f"http://{reflux.target.address}{made['link']}")
        else:
            reflux.out.line(made["token"])


def pause(
    run_id: RunId,
    reason: Reason = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Pause a run: nothing begins until it is resumed; attempts in flight end. No clock stops."""
    _decide("PauseRun", run_id, "", reason, (server, data_dir, as_json))


def resume(
    run_id: RunId,
    reason: Reason = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused run go on, or give one in quarantine another chance."""
    _decide("ResumeRun", run_id, "", reason, (server, data_dir, as_json))


def terminate(
    run_id: RunId,
    reason: Reason = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End a run at once, without waiting for attempts in flight; what may have happened is listed."""
    _decide("TerminateRun", run_id, "", reason, (server, data_dir, as_json))


def skip(
    run_id: RunId,
    step: Step,
    *,
    reason: Reason = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Skip a step that has not begun, waits, or is PARKED: what follows it goes on."""
    _decide("SkipStep", run_id, step, reason, (server, data_dir, as_json))


def complete(
    run_id: RunId,
    step: Step,
    choice: Annotated[What, typer.Argument(help="What becomes of it.")],
    *,
    output: Given = None,
    version: Annotated[str, typer.Option(help="With fall_back: the version that is asked.")] = "",
    reason: Reason = "",
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say what becomes of a PARKED step.

    confirm: its effect happened, and --output is what it gave. retry: do it again, as a new effect.
    fall_back: the same, by --version. fail: it has failed for good.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        said: dict[str, Any] = {"choice": choice.value, "reason": reason, "request_id": str(uuid.uuid4())}
        said |= _json("output", output) | ({"version": version} if version else {})
        _show(reflux, _say(reflux, "CompleteStep", said, run_id=run_id, step=step))


def _decide(verb: str, run_id: str, step: str, reason: str, where: Where) -> None:
    server, data_dir, as_json = where
    with session(server, data_dir, as_json=as_json) as reflux:
        said = {"reason": reason, "request_id": str(uuid.uuid4())}
        _show(reflux, _say(reflux, verb, said, run_id=run_id, **({"step": step} if step else {})))


def _say(reflux: Session, verb: str, said: dict[str, Any], **names: str) -> dict[str, Any]:
    from reflux.api.run.v1 import run_service_pb2 as pb

    body = documents.of_value(said, "what is said").body()
    request = getattr(pb, f"{verb}Request")(document=body, **names)
    result: dict[str, Any] = read(getattr(reflux.runs, verb)(request, timeout=SECONDS))
    return result


def _show(reflux: Session, run: dict[str, Any]) -> None:
    if reflux.out.as_json:
        reflux.out.json(run)
        return
    reflux.out.line(f"run {run['id']} is {run['state']}")
    if run["finish_time"] and run["unresolved_effects"]:
        reflux.out.note(f"nobody knows what became of {', '.join(run['unresolved_effects'])}")


def _json(field: str, given: str | None) -> dict[str, Any]:
    """The field, if it was given."""
    if given is None:
        return {}
    if given == documents.STDIN or given.startswith("@"):
        return {field: documents.read(given.removeprefix("@")).value}
    from reflux.runtime.documents import parse_json

    return {field: parse_json(given.encode(errors="surrogateescape"), what=f"--{field}")}
