"""A node version on a real port, an orchestrator that grants claims, and a caller as the mesh is one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import orjson
from google.rpc import error_details_pb2, status_pb2

from reflux.api.effect.v1 import effect_service_pb2, effect_service_pb2_grpc
from reflux.api.node.v1 import node_service_pb2, node_service_pb2_grpc
from reflux.core.errors import Refused
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address, Settings
from reflux.sdk.claims import Claims
from reflux.sdk.serving import node_server

FREE = Address("127.0.0.1", 0)


@dataclass
class Answer:
    """What a caller, or Envoy, sees of a call."""

    output: object = None
    code: grpc.StatusCode = grpc.StatusCode.OK
    failure: rpc.RpcFailure | None = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_safe: bool = False
    retry_seconds: float | None = None
    cost_nanos: int | None = None


@dataclass
class Caller:
    """Calls one served node version."""

    channel: grpc.aio.Channel

    async def __call__(self, value: object, *, timeout: float = 10, **envelope: str) -> Answer:
        raw = value if isinstance(value, bytes) else orjson.dumps(value)
        traceparent = envelope.pop("traceparent", None)
        metadata = tuple((f"x-reflux-{key.replace('_', '-')}", text) for key, text in envelope.items())
        if traceparent is not None:
            metadata += (("traceparent", traceparent),)
        stub = node_service_pb2_grpc.NodeServiceStub(self.channel)
        request = node_service_pb2.ExecuteRequest(input=raw)
        try:
            response = await stub.Execute(request, metadata=metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            return Answer(
                code=error.code(),
                failure=rpc.read(error),
                headers=dict(error.initial_metadata() or ()),
                retry_safe=trailers.get("x-reflux-retry") == "safe",
                retry_seconds=_retry_seconds(trailers.get(rpc.DETAILS_KEY)),
            )
        cost = response.cost_nanos if response.HasField("cost_nanos") else None
        return Answer(output=orjson.loads(response.output), cost_nanos=cost)


def _retry_seconds(status: bytes | None) -> float | None:
    for detail in status_pb2.Status.FromString(status or b"").details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return None


@dataclass
class Orchestrator(effect_service_pb2_grpc.EffectServiceServicer):
    """Grants every claim, or refuses it; keeps what it was asked."""

    grants: bool = True
    asked: list[effect_service_pb2.ClaimEffectRequest] = field(default_factory=list)
    address: str = ""

    async def ClaimEffect(self, request, context):
        self.asked.append(request)
        if not self.grants:
            raise Refused(Reason.CLAIM_REFUSED, "the attempt was superseded")
        return effect_service_pb2.ClaimEffectResponse()


@asynccontextmanager
async def served(version, *, exporter=None, **settings):
    """Serve `version` without a registry; yields its caller."""
    async with (
        Claims() as claims,
        node_server(version, Settings(**settings), claims=claims, address=FREE, exporter=exporter) as address,
        rpc.channel(address) as channel,
    ):
        yield Caller(channel)


@asynccontextmanager
async def orchestrator(*, grants: bool = True):
    """Serve an EffectService; its `address` goes into envelopes as `claim_address`."""
    servicer = Orchestrator(grants=grants)

    def register(server):
        effect_service_pb2_grpc.add_EffectServiceServicer_to_server(servicer, server)

    async with grpc_server(address=FREE, register=[register], services=[]) as address:
        servicer.address = str(address)
        yield servicer
