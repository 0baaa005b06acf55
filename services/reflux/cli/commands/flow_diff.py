"""`reflux flow diff`, and what a flow's document is."""

import difflib
from typing import Annotated, Any

import typer

from reflux.cli import completion, documents
from reflux.cli.exits import Exit
from reflux.cli.failures import wrong
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Output
from reflux.cli.session import SECONDS, Session, read, session

_DOCUMENT = ("name", "description", "spec", "ui")
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def diff(
    *,
    name: Annotated[
        str, typer.Argument(metavar="FLOW", help="Its name or id.", autocompletion=completion.flows)
    ],
    one: Annotated[
        str | None,
        typer.Argument(
            metavar="[A|FILE]",
            help="A version, or a file in JSON or YAML (- is standard input).",
            autocompletion=completion.flow_versions,
        ),
    ] = None,
    other: Annotated[
        int | None, typer.Argument(metavar="[B]", min=1, help="Another version; default: the current one.")
    ] = None,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions, as a unified diff of their documents in YAML.

    With nothing else: the version before, and the current one. With a file: the current version, and what
    applying the file would make of it. Exit status 0 when they are equal, 1 when they differ.
    """
    with session(server, data_dir, as_json=as_json) as reflux:
        if one is not None and not one.isdigit():
            if other is not None:
                raise wrong("a file is compared with the current version; leave the other version out")
            current = get_flow(reflux, name, None)
            sides = [_side(current, current["version"]), _file_side(one)]
        else:
            sides = _version_sides(reflux, name, one, other)
        (before, before_label), (after, after_label) = sides
        lines = [*difflib.unified_diff(*_texts(before, after), before_label, after_label, lineterm="")]
        if as_json:
            document = {"equal": not lines, "from": before_label, "to": after_label, "diff": lines}
            reflux.out.json(document)
        else:
            show_diff(reflux.out, lines)
        if lines:
            raise typer.Exit(Exit.FAILED)


def show_diff(out: Output, lines: list[str]) -> None:
    """A unified diff, coloured on a terminal."""
    for line in lines:
        heading = line.startswith(("--- ", "+++ "))
        out.line(line, "bold" if heading else _COLOURS.get(line[:1], ""))


def get_flow(reflux: Session, name: str, version: int | None) -> dict[str, Any]:
    """A Flow, or a FlowVersion when `version` is given."""
    from reflux.api.flow.v1.flow_service_pb2 import GetFlowRequest, GetFlowVersionRequest

    answer: dict[str, Any]
    if version is None:
        answer = read(reflux.flows.GetFlow(GetFlowRequest(flow_id=name), timeout=SECONDS))
    else:
        request = GetFlowVersionRequest(flow_id=name, version=version)
        answer = read(reflux.flows.GetFlowVersion(request, timeout=SECONDS))
    return answer


def document_of(flow: dict[str, Any]) -> dict[str, Any]:
    """What a person wrote of it. Of a version that is no longer current only the spec is kept."""
    return {key: flow[key] for key in _DOCUMENT if flow.get(key) not in (None, "")}


def _version_sides(reflux: Session, name: str, one: str | None, other: int | None) -> list[tuple[Any, str]]:
    """Two versions; only specs are compared, a version has nothing else."""
    if other is None:
        other = int(get_flow(reflux, name, None)["version"])
    older = other - 1 if one is None else int(one)
    if older < 1:
        raise wrong(f"flow {name} has only version {other}: there is nothing before it")
    versions = [get_flow(reflux, name, number) for number in (older, other)]
    return [({"spec": each["spec"]}, f"version {each['version']}") for each in versions]


def _side(flow: dict[str, Any], version: int) -> tuple[Any, str]:
    return document_of(flow), f"version {version}"


def _file_side(file: str) -> tuple[Any, str]:
    """A file as it would be saved: older spellings are rewritten by the same code as in the server."""
    from reflux.core.flow import compile_flow

    document = documents.read(file)
    result = compile_flow(document.value)
    if result.problems or not isinstance(document.value, dict):
        hint = f"see all of them with `reflux flow plan {file}`"
        first = result.problems[0]
        raise wrong(
            f"{document.name} has problems, the first one at {first.pointer}: {first.message}", hint=hint
        )
    return document_of({**document.value, "spec": result.spec}), document.name


def _texts(before: Any, after: Any) -> tuple[list[str], list[str]]:
    """Both as lines of YAML. The order of an object's members means nothing, so both get the same."""
    return documents.to_yaml(_ordered(before)).splitlines(), documents.to_yaml(_ordered(after)).splitlines()


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=_rank)}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value


def _rank(key: str) -> tuple[int, str]:
    """`id` and `name` first, as people write them; the rest by name."""
    return (("id", "name").index(key) if key in ("id", "name") else 2), key
