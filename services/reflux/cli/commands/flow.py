"""`reflux flow`: save, look at, compare, roll back, delete and run flows."""

from typing import Annotated

import typer

from reflux.cli import completion
from reflux.cli.commands import flow_apply, flow_diff, flow_run, step_execute
from reflux.cli.options import AsJson, DataDir, Server
from reflux.cli.output import Column
from reflux.cli.session import SECONDS, all_pages, read, session, to_dict
from reflux.cli.spoken import ago, local

app = typer.Typer(
    no_args_is_help=True,
    help="Save flows, see what they would do, compare and roll back their versions, run them.",
)

FlowName = Annotated[
    str, typer.Argument(metavar="FLOW", help="Its name or id.", autocompletion=completion.flows)
]


app.command("apply")(flow_apply.apply)
app.command("plan")(flow_apply.plan)


@app.command("list")
def list_flows(server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the flows by name."""
    from reflux.api.flow.v1.flow_service_pb2 import ListFlowsRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        flows = [to_dict(each) for each in all_pages(reflux.flows.ListFlows, ListFlowsRequest(), "flows")]
        if as_json:
            reflux.out.json({"flows": flows})
            return
        columns = [
            Column("FLOW"),
            Column("VERSION", right=True),
            Column("CHANGED", right=True),
            Column("DESCRIPTION", wraps=True),
        ]
        rows = [(f["name"], f["version"], ago(f.get("update_time")), f["description"]) for f in flows]
        reflux.out.table(columns, rows, empty="no flow yet: save one with `reflux flow apply FILE`")


@app.command("get")
def get(
    *,
    name: FlowName,
    version: Annotated[
        int | None,
        typer.Option(
            help="An older version; default: the current one.", min=1, autocompletion=completion.flow_versions
        ),
    ] = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Only the document, as `flow apply` takes it.")
    ] = False,
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a flow: its facts, then its document as YAML."""
    from reflux.cli.documents import to_yaml

    with session(server, data_dir, as_json=as_json) as reflux:
        flow = flow_diff.get_flow(reflux, name, version)
        if as_json:
            reflux.out.json(flow)
            return
        if version is not None:  # a version knows no name, and a document needs one
            flow["name"] = flow_diff.get_flow(reflux, name, None)["name"]
        if not as_yaml:
            reflux.out.pairs(
                (
                    ("flow", flow.get("name")),
                    ("id", flow.get("id") or flow.get("flow_id")),
                    ("version", flow["version"]),
                    ("digest", flow["digest"]),
                    ("author", flow.get("author")),
                    ("changed", local(flow.get("update_time") or flow["create_time"])),
                )
            )
            reflux.out.line()
        reflux.out.raw(to_yaml(flow_diff.document_of(flow)))


@app.command("history")
def history(name: FlowName, server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List a flow's versions, newest first."""
    from reflux.api.flow.v1.flow_service_pb2 import ListFlowVersionsRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = ListFlowVersionsRequest(flow_id=name)
        versions = [to_dict(each) for each in all_pages(reflux.flows.ListFlowVersions, request, "versions")]
        if as_json:
            reflux.out.json({"versions": versions})
            return
        columns = [
            Column("VERSION", right=True),
            Column("MADE", right=True),
            Column("AUTHOR"),
            Column("DIGEST"),
        ]
        reflux.out.table(
            columns,
            [(v["version"], ago(v.get("create_time")), v["author"], v["digest"][:12]) for v in versions],
        )


@app.command("rollback")
def rollback(
    name: FlowName,
    version: Annotated[
        int, typer.Argument(min=1, help="The version to repeat.", autocompletion=completion.flow_versions)
    ],
    server: Server = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a new version that equals an older one. Runs keep the version they began with."""
    from reflux.api.flow.v1.flow_service_pb2 import RollbackFlowRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        request = RollbackFlowRequest(flow_id=name, version=version)
        flow = read(reflux.flows.RollbackFlow(request, timeout=SECONDS))
        if as_json:
            reflux.out.json(flow)
            return
        reflux.out.line(
            f"flow {flow['name']} is at version {flow['version']}, which equals version {version}"
        )


@app.command("delete")
def delete(name: FlowName, server: Server = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Delete a flow. Its runs go on; its name becomes free."""
    from reflux.api.flow.v1.flow_service_pb2 import DeleteFlowRequest

    with session(server, data_dir, as_json=as_json) as reflux:
        reflux.flows.DeleteFlow(DeleteFlowRequest(flow_id=name), timeout=SECONDS)
        if as_json:
            reflux.out.json({})
            return
        reflux.out.line(f"flow {name} is deleted")


app.command("run")(flow_run.run)
app.command("diff")(flow_diff.diff)
app.command("step")(step_execute.of_flow)
