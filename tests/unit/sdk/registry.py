"""A registry that keeps what it is told; its leases are short."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta

from reflux.api.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from reflux.core.errors import NotFound, Refused
from reflux.core.reasons import Reason
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address
from tests.unit.sdk.served import FREE

LEASE = 0.3


class Registry(registry_service_pb2_grpc.EndpointServiceServicer):
    """Keeps what it is told, in order."""

    def __init__(self):
        self.heard = []
        self.known = {}
        self.refuse = set()

    async def RegisterEndpoint(self, request, context):
        self.heard.append("register")
        if request.description.node in self.refuse:
            raise Refused(Reason.DESCRIPTION_CONFLICT, "known with another description")
        endpoint_id = f"id-{len(self.heard)}"
        self.known[endpoint_id] = request
        answer = registry_service_pb2.RegisterEndpointResponse(endpoint_id=endpoint_id)
        answer.lease.FromTimedelta(timedelta(seconds=LEASE))
        return answer

    async def RenewEndpoint(self, request, context):
        self.heard.append("renew")
        if request.endpoint_id not in self.known:
            raise NotFound(Reason.LEASE_EXPIRED, "register again")
        answer = registry_service_pb2.RenewEndpointResponse()
        answer.lease.FromTimedelta(timedelta(seconds=LEASE))
        return answer

    async def RemoveEndpoint(self, request, context):
        self.heard.append("remove")
        self.known.pop(request.endpoint_id, None)
        return registry_service_pb2.RemoveEndpointResponse()

    def address(self, name="test.one"):
        told = next(each for each in self.known.values() if each.description.node == name)
        return Address("127.0.0.1", int(told.address.removeprefix(":")))


@asynccontextmanager
async def registry(servicer, address=FREE):
    def register(server):
        registry_service_pb2_grpc.add_EndpointServiceServicer_to_server(servicer, server)

    async with grpc_server(address=address, register=[register], services=[]) as bound:
        yield bound
