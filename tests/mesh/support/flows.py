"""An orchestrator that knows of flows what a test says: what the control plane asks before a version takes
calls.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reflux.api.flow.v1 import contract_service_pb2 as pb
from reflux.api.flow.v1.contract_service_pb2_grpc import (
    ContractServiceServicer,
    add_ContractServiceServicer_to_server,
)
from reflux.core.errors import Unavailable
from reflux.core.reasons import Reason
from reflux.runtime.service import grpc_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reflux.runtime.settings import Address


@dataclass
class Flows(ContractServiceServicer):
    """No flow uses anything, until a test says so."""

    misfits: dict[str, list[pb.Misfit]] = field(default_factory=dict)
    """By version of the node."""
    asked: list[pb.CheckContractsRequest] = field(default_factory=list)
    away: bool = False

    async def CheckContracts(self, request, context):
        self.asked.append(request)
        if self.away:
            raise Unavailable(Reason.NOT_ACCEPTING, "this orchestrator does not know the mesh yet; try again")
        versions = [
            pb.VersionContract(version=each, misfits=self.misfits.get(each, [])) for each in request.versions
        ]
        return pb.CheckContractsResponse(versions=versions, serving=request.serving)


@asynccontextmanager
async def flows_at(address: Address) -> AsyncIterator[Flows]:
    """Answering there."""
    flows = Flows()
    register = [lambda server: add_ContractServiceServicer_to_server(flows, server)]
    async with grpc_server(address=address, register=register, services=[], drain_seconds=0):
        yield flows
