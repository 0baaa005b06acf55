"""`reflux flow apply` and `reflux flow plan`: documents to the server, and its problems with them back.

Problems come from `PlanFlow` even when it was saving that was refused: an error's trailers have no room for
all of them, and no hints.
"""

from typing import Annotated, Any

import typer

from reflux.cli import completion, documents, failures
from reflux.cli.documents import Document
from reflux.cli.exits import Exit
from reflux.cli.failures import CommandError
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, Session, read, session, to_dict
from reflux.cli.spoken import percent
from reflux.core.reasons import Reason


def apply(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Flows in JSON or YAML; - is standard input.")
    ],
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Save flows: each is created, or becomes a new version if it differs.

    What is saved may still not fit the nodes as they are now: every version that takes calls is looked at,
    and what is found is shown.

    A document with problems is not saved; all of them are shown, with places and hints. The other files are
    saved nevertheless, and the exit status is that of the first failure.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        results, worst = [], Exit.OK
        for file in files:
            result, status = _apply(reflux, documents.read(file))
            results.append(result)
            worst = worst or status
        if as_json:
            reflux.out.json({"flows": results})
        raise typer.Exit(worst)


def _apply(reflux: Session, document: Document) -> tuple[dict[str, Any], Exit]:
    """Save one document; problems are shown here, everything else that goes wrong ends the command."""
    import grpc

    try:
        before, flow = _save(reflux, document)
    except grpc.RpcError as error:
        failure = failures.of_call(error, reflux.target)
        if failure.reason != Reason.FLOW_INVALID:
            raise CommandError(failure) from error
        plan = _plan(reflux, "", document)
        if plan["valid"]:  # it is our server's judgement that counts; say it in its words
            raise CommandError(failure) from error
        if reflux.out.as_json:
            reflux.out.failure(failure)
        else:
            reflux.out.note(f"reflux: {document.name} is not saved")
            _show_problems(reflux, plan, document)
        return {"file": document.name, "result": "refused", "problems": plan["problems"]}, failure.exit
    result = "created" if before is None else "changed" if before != flow["version"] else "unchanged"
    if not reflux.out.as_json:
        reflux.out.line(f"flow {flow['name']} {result}, version {flow['version']}")
    shown = {key: flow[key] for key in ("id", "name", "version", "digest")}
    problems = _found_in_the_mesh(reflux, flow["name"], document)
    return {"file": document.name, "result": result, **shown, "problems": problems}, Exit.OK


def _found_in_the_mesh(reflux: Session, flow: str, document: Document) -> list[dict[str, Any]]:
    """What keeps a flow that is saved from being done as the mesh is now."""
    import grpc

    try:
        plan = _plan(reflux, flow, None)
    except grpc.RpcError as error:  # it is saved, whatever else
        reflux.out.note(f"reflux: whether {flow} fits the nodes is not known: {error.code().name}")
        return []
    if plan["problems"] and not reflux.out.as_json:
        reflux.out.note(f"reflux: {flow} is saved, and does not fit the nodes as they are now:")
        _show_problems(reflux, plan, document)
    problems: list[dict[str, Any]] = plan["problems"]
    return problems


def _save(reflux: Session, document: Document) -> tuple[int | None, dict[str, Any]]:
    """The version before, if the flow was there, and the flow as it is now."""
    import grpc

    from reflux.api.flow.v1.flow_service_pb2 import CreateFlowRequest, GetFlowRequest, ReplaceFlowRequest
    from reflux.core.names import is_name

    name = document.value.get("name") if isinstance(document.value, dict) else None
    if not isinstance(name, str) or not is_name(name):  # to be refused, by who knows why
        return None, read(
            reflux.flows.CreateFlow(CreateFlowRequest(document=document.body()), timeout=SECONDS)
        )
    before: int | None
    try:
        before = read(reflux.flows.GetFlow(GetFlowRequest(flow_id=name), timeout=SECONDS))["version"]
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        before = None
    request = ReplaceFlowRequest(flow_id=name, document=document.body(), allow_missing=True)
    return before, read(reflux.flows.ReplaceFlow(request, timeout=SECONDS))


def plan(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FLOW",
            help="A file in JSON or YAML, - for standard input, or the name or id of a saved flow.",
            autocompletion=completion.flows,
        ),
    ],
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say what a flow would do, without running it: its calls, who could answer them, and every problem.

    Exit status 1 when there are problems. A path, or a name with an ending such as .yaml, is a file.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        document = documents.read(what) if documents.looks_like_a_file(what) else None
        answer = _plan(reflux, "" if document else what, document)
        if as_json:
            reflux.out.json(answer)
        else:
            _show_steps(reflux, answer)
            if answer["valid"]:
                reflux.out.note("no problem was found")
            else:
                _show_problems(reflux, answer, document)
        if not answer["valid"]:
            raise typer.Exit(Exit.FAILED)


def _plan(reflux: Session, flow: str, document: Document | None) -> dict[str, Any]:
    from reflux.api.flow.v1.flow_service_pb2 import PlanFlowRequest

    body = document.body() if document else None
    return to_dict(reflux.flows.PlanFlow(PlanFlowRequest(flow_id=flow, document=body), timeout=SECONDS))


def _show_steps(reflux: Session, answer: dict[str, Any]) -> None:
    columns = [
        Column("STEP"),
        Column("NODE"),
        Column("VERSIONS", wraps=True),
        Column("EFFECT"),
        Column("LANE"),
        Column("WAITS FOR", wraps=True),
        Column("CREDENTIALS", wraps=True),
    ]
    rows = [
        (
            step["step"],
            step["node"],
            ", ".join(map(_version, step["versions"])),
            step["effect"],
            step["lane"],
            ", ".join(step["needs"]),
            _credentials(step),
        )
        for step in answer["steps"]
    ]
    reflux.out.table(columns, rows)


def _credentials(step: dict[str, Any]) -> str:
    """Those that the step names; else where it could name one."""
    named = step.get("credentials") or {}
    if named:
        return ", ".join(f"{slot}: {name}" if slot else name for slot, name in sorted(named.items()))
    slots = sorted({slot for version in step["versions"] for slot in version.get("credentials") or ()})
    return f"none (could: {', '.join(slots)})" if slots else ""


def _version(of: dict[str, Any]) -> str:
    share = percent(of["weight"]) if of["weight"] else "fallback"
    return f"{of['version']} {share}" + ("" if of["endpoints"] else " (no endpoint)")


def _show_problems(reflux: Session, answer: dict[str, Any], document: Document | None) -> None:
    rows: list[tuple[object, ...]] = []
    for problem in answer["problems"]:
        line = document.line(problem["pointer"]) if document else None
        rows.append((line, problem["pointer"], problem["code"], problem["message"], problem["hint"]))
    columns = [
        Column("LINE", right=True),
        Column("PLACE"),
        Column("PROBLEM"),
        Column("WHAT IS WRONG", wraps=True),
        Column("WHAT TO DO", wraps=True),
    ]
    if document is None:
        columns, rows = columns[1:], [row[1:] for row in rows]
    reflux.out.table(columns, rows)
