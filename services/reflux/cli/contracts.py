"""Which flows versions of nodes do not fit, as the orchestrator says it: for `reflux node`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflux.cli.output import Column
from reflux.cli.session import SECONDS, to_dict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.cli.session import Session

MAX_NAMED = 3
"""Flows in one cell."""


def with_misfits(reflux: Session, node: str, versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The NodeVersions of a node, each with its `misfits`; null where nobody can say.

    A version alone is not asked about: there is nothing else that its flows could be given to, and
    `reflux flow plan` says what is wrong with them.
    """
    found = _asked(reflux, node) if len(versions) > 1 else {}
    return [
        {**each, "misfits": None if found is None else found.get(each["version"], [])} for each in versions
    ]


def _asked(reflux: Session, node: str) -> dict[str, list[dict[str, Any]]] | None:
    import grpc

    from reflux.api.flow.v1.contract_service_pb2 import CheckContractsRequest
    from reflux.api.flow.v1.contract_service_pb2_grpc import ContractServiceStub

    try:
        stub = ContractServiceStub(reflux.channel)
        answer = to_dict(stub.CheckContracts(CheckContractsRequest(node=node), timeout=SECONDS))
    except grpc.RpcError as error:  # what can be called is worth showing without it
        reflux.out.note(f"whether flows fit the versions of {node} is not known: {error.code().name}")
        return None
    return {each["version"]: each["misfits"] for each in answer["versions"]}


def flows_of(misfits: Iterable[dict[str, Any]] | None) -> str:
    """The flows, in one cell: `checkout@3, refund@1`; `?` when nobody can say."""
    if misfits is None:
        return "?"
    flows = list(dict.fromkeys(f"{each['flow']}@{each['flow_version']}" for each in misfits))
    more = f" and {len(flows) - MAX_NAMED} more" if len(flows) > MAX_NAMED else ""
    return ", ".join(flows[:MAX_NAMED]) + more


def show_misfits(reflux: Session, misfits: list[dict[str, Any]] | None) -> None:
    """A line for each step, with what to do; nothing when there is none."""
    if not misfits:
        return
    columns = [
        Column("FLOW"),
        Column("STEP"),
        Column("PLACE"),
        Column("FAILS"),
        Column("WHAT DOES NOT FIT", wraps=True),
        Column("WHAT TO DO", wraps=True),
    ]
    rows = [
        (
            f"{each['flow']}@{each['flow_version']}",
            each["step"],
            each["pointer"],
            "each call" if each["sure"] else "some, perhaps",
            each["message"],
            each["hint"],
        )
        for each in misfits
    ]
    reflux.out.line()
    reflux.out.line("flows that it does not fit:", "bold")
    reflux.out.table(columns, rows)
