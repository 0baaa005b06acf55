"""What is said of versions that do not answer yet: how they compare in the shadow; which flows they fit."""

from __future__ import annotations

from typing import Any

from reflux.api.flow.v1 import contract_service_pb2 as contract_pb
from reflux.api.flow.v1.contract_service_pb2_grpc import ContractServiceServicer
from reflux.api.shadow.v1 import shadow_service_pb2 as shadow_pb
from reflux.api.shadow.v1.shadow_service_pb2_grpc import ShadowServiceServicer
from reflux.core.errors import Unavailable
from reflux.core.reasons import Reason


class Shadows(ShadowServiceServicer):
    """What is known of shadows."""

    def __init__(self) -> None:
        self.answer = shadow_pb.ListShadowsResponse()

    def ListShadows(self, request: Any, context: Any) -> shadow_pb.ListShadowsResponse:
        return self.answer


class Contracts(ContractServiceServicer):
    """The second version does not fit a flow, until a test says otherwise."""

    def __init__(self) -> None:
        self.misfits = [
            contract_pb.Misfit(
                flow="checkout",
                flow_version=3,
                step="ask",
                pointer="/spec/steps/0/with/url",
                code=contract_pb.Misfit.INPUT_NARROWER,
                message="it takes string and no longer null",
                hint="let it name http.request@1.0.0",
            )
        ]

        self.away = False

    def CheckContracts(self, request: Any, context: Any) -> contract_pb.CheckContractsResponse:
        if self.away:
            raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator does not know the mesh yet; try again")
        versions = [
            contract_pb.VersionContract(version="2.0.0", misfits=self.misfits, total=len(self.misfits)),
            contract_pb.VersionContract(version="1.0.0"),
        ]
        return contract_pb.CheckContractsResponse(versions=versions, serving=["1.0.0"], flow_versions=1)
