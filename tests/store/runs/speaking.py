"""Saying things to runs, as clients do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc.aio import AioRpcError

from reflux.api.run.v1 import run_service_pb2 as pb
from reflux.runtime import rpc

if TYPE_CHECKING:
    from tests.support.scripted_mesh import Client


def body(document: Any) -> HttpBody:
    return HttpBody(content_type="application/json", data=orjson.dumps(document))


async def say(client: Client, verb: str, run_id: str, step: str = "", **document: Any) -> dict[str, Any]:
    """`verb` is the method, such as PauseRun."""
    fields: dict[str, Any] = {"run_id": run_id, "document": body(document)}
    if step:
        fields["step"] = step
    request = getattr(pb, f"{verb}Request")(**fields)
    return orjson.loads((await getattr(client.runs, verb)(request, timeout=20)).data)


async def send(client: Client, name: str, **document: Any) -> dict[str, Any]:
    """A signal to whoever waits."""
    request = pb.SendSignalRequest(signal=name, document=body(document))
    return orjson.loads((await client.runs.SendSignal(request, timeout=20)).data)


async def refusal(call: Any) -> rpc.RpcFailure:
    """What a call is refused with."""
    with pytest.raises(AioRpcError) as refused:
        await call
    return rpc.read(refused.value)
