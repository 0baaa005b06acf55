"""REFLUX as its users meet it: flows executed through the edge, each answer after the run has settled."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from bench.echo import NODE
from reflux.api.flow.v1.flow_service_pb2 import ReplaceFlowRequest
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1.run_service_pb2 import ExecuteFlowRequest
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from bench.stack import Stack

_INPUT: Final = b'{"value":"a trivial step"}'
_WAIT: Final = "30s"
_SECONDS: Final = 35.0
_READY_SECONDS: Final = 30.0


class Client:
    """Starts runs of flows that are named `bench-N` for their N steps."""

    def __init__(self, channel: grpc.aio.Channel, http: aiohttp.ClientSession) -> None:
        self._flows = FlowServiceStub(channel)
        self._runs = RunServiceStub(channel)
        self._http = http

    async def create(self, steps: int) -> None:
        """Save the flow, then wait until one run of it succeeds: the node is registered and routed.

        Raises:
            RuntimeError: none succeeded within 30 s; the last run's error is in the message.
        """
        document = HttpBody(content_type="application/json", data=orjson.dumps(_flow(steps)))
        request = ReplaceFlowRequest(flow_id=f"bench-{steps}", document=document, allow_missing=True)
        await self._flows.ReplaceFlow(request, timeout=_SECONDS)
        last: RuntimeError | None = None
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while True:
                    try:
                        return await self.run(steps)
                    except RuntimeError as error:
                        last = error
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise RuntimeError(f"no run succeeded within {_READY_SECONDS:g} s: {last}") from None

    async def run(self, steps: int) -> None:
        """One run over gRPC."""
        body = HttpBody(content_type="application/json", data=_INPUT)
        request = ExecuteFlowRequest(flow_id=f"bench-{steps}", input=body, wait=_WAIT)
        answer = await self._runs.ExecuteFlow(request, timeout=_SECONDS)
        _check(orjson.loads(answer.data))

    async def run_rest(self, steps: int) -> None:
        """One run over REST."""
        url = f"/api/flows/bench-{steps}/execute?wait={_WAIT}"
        async with self._http.post(
            url, data=_INPUT, headers={"content-type": "application/json"}
        ) as response:
            _check(orjson.loads(await response.read()))


@asynccontextmanager
async def connected(stack: Stack) -> AsyncIterator[Client]:
    """A client of `stack`, with one connection for each protocol."""
    async with rpc.channel(stack.edge) as channel, aiohttp.ClientSession(f"http://{stack.edge}") as http:
        yield Client(channel, http)


def _flow(steps: int) -> dict[str, Any]:
    values = ["{{ input.value }}", *(f"{{{{ steps.s{step}.output.value }}}}" for step in range(1, steps))]
    listed = [
        {"id": f"s{number}", "node": NODE, "with": {"value": value}}
        for number, value in enumerate(values, start=1)
    ]
    return {"name": f"bench-{steps}", "spec": {"steps": listed}}


def _check(run: dict[str, Any]) -> None:
    if run.get("state") != "SUCCEEDED":
        raise RuntimeError(f"a run ended {run.get('state')}: {run.get('error') or run}")
