"""ContractService: translate, ask, translate back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.api.flow.v1 import contract_service_pb2 as pb
from reflux.api.flow.v1.contract_service_pb2_grpc import ContractServiceServicer
from reflux.core.contract import MisfitCode
from reflux.core.errors import InvalidArgument, Violation
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core.contract import Misfit
    from reflux.orchestrator.contracts.desk import ContractDesk, Verdict
    from reflux.orchestrator.contracts.uses import FlowUses

MAX_MISFITS: Final = 100
"""Told of one version."""
MAX_VERSIONS: Final = 100
"""Asked about at once."""

_CODES: Final = {code: pb.Misfit.Code.Value(code.value) for code in MisfitCode}
_GIVEN: Final = frozenset({MisfitCode.INPUT_INVALID, MisfitCode.INPUT_NARROWER})


class ContractServicer(ContractServiceServicer):
    """May also raise psycopg.Error when the database is away."""

    def __init__(self, desk: ContractDesk) -> None:
        self._desk = desk

    async def CheckContracts(  # noqa: N802 - the name in the contract
        self, request: pb.CheckContractsRequest, context: Any
    ) -> pb.CheckContractsResponse:
        """Raises InvalidArgument, NotFound, Unavailable."""
        del context
        for field in ("versions", "serving"):
            if len(getattr(request, field)) > MAX_VERSIONS:
                message = f"at most {MAX_VERSIONS} versions are compared at once"
                violation = Violation(field, message)
                raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[violation])
        answer = await self._desk.check(request.node, request.versions, request.serving)
        return pb.CheckContractsResponse(
            versions=[_contract(request.node, each, answer.serving) for each in answer.verdicts],
            serving=answer.serving,
            flow_versions=answer.flow_versions,
        )


def _contract(node: str, verdict: Verdict, serving: Sequence[str]) -> pb.VersionContract:
    pinned = next((each for each in serving if each != verdict.version), None)
    told = [_misfit(node, verdict.version, pinned, *each) for each in verdict.misfits[:MAX_MISFITS]]
    return pb.VersionContract(version=verdict.version, misfits=told, total=len(verdict.misfits))


def _misfit(node: str, version: str, pinned: str | None, flow: FlowUses, misfit: Misfit) -> pb.Misfit:
    finding = misfit.finding
    hint = (
        f"let the step give what {node}@{version} takes"
        if finding.code in _GIVEN
        else f"read only what {node}@{version} gives, or with .? or ??"
    )
    if pinned is not None:
        hint += f"; or let it name {node}@{pinned}"
    return pb.Misfit(
        flow_id=flow.flow_id,
        flow=flow.name,
        flow_version=flow.version,
        step=misfit.step,
        pointer=finding.pointer,
        code=_CODES[finding.code],
        sure=finding.sure,
        message=finding.message,
        hint=hint,
    )
