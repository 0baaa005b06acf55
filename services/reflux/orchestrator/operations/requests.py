"""What the methods of OperationService were asked, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.names import StepPath
from reflux.orchestrator.bodies import Fields
from reflux.orchestrator.operations.alone import Execution
from reflux.orchestrator.operations.forks import Going
from reflux.orchestrator.words.documents import run_id_of

if TYPE_CHECKING:
    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]


def fork(run_id: str, body: HttpBody) -> Going:
    """A Fork.

    Raises:
        InvalidArgument: it is none.
    """
    known = ("from_step", "flow_version", "versions", "input", "dry_run")
    fields = Fields.of(body, what="the fork", known=known)
    step = fields.text("from_step", required=True)
    going = Going(
        run_id_of(run_id),
        StepPath(step),
        fields.version("flow_version"),
        fields.texts("versions"),
        fields.json("input"),
        fields.flag("dry_run"),
    )
    fields.check()
    return going


def retry(run_id: str, body: HttpBody) -> Going:
    """A Retry; an empty document asks for the defaults.

    Raises:
        InvalidArgument: it is none.
    """
    fields = Fields.of(body, what="the retry", known=("flow_version", "versions", "dry_run"))
    going = Going(
        run_id_of(run_id),
        None,
        fields.version("flow_version"),
        fields.texts("versions"),
        None,
        fields.flag("dry_run"),
    )
    fields.check()
    return going


def execution(body: HttpBody, step: str, *, flow: str = "", run_id: str | None = None) -> Execution:
    """A StepExecution, of a flow or of a run.

    Raises:
        InvalidArgument: it is none.
    """
    known = ("flow_version", "node_version", "input", "context", *(("path",) if run_id is not None else ()))
    fields = Fields.of(body, what="the execution", known=known)
    path = fields.text("path")
    if path and step not in (path, path.rpartition("/")[2]):
        fields.wrong("path", f"ends with the id of the step, {step[:100]}")
    if fields.has("input") and fields.has("context"):
        fields.wrong("context", "give an input or a context: with an input nothing is read")
    asked = Execution(
        flow,
        None if run_id is None else run_id_of(run_id),
        StepPath(path or step),
        fields.version("flow_version"),
        fields.text("node_version"),
        fields.json("input"),
        fields.json("context"),
    )
    fields.check()
    return asked
