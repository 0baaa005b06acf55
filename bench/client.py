"""REFLUX as its users meet it: flows executed through the edge, each answer after the run has settled."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from reflux.api.flow.v1.flow_service_pb2 import ReplaceFlowRequest
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.routing.v1 import routing_service_pb2 as routing
from reflux.api.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from reflux.api.run.v1.run_service_pb2 import ExecuteFlowRequest
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from bench.flows import Flow
    from bench.stack import Stack

_WAIT: Final = "60s"
_SECONDS: Final = 65.0
_READY_SECONDS: Final = 60.0


class Client:
    """Starts runs of the flows of `bench.flows`, and waits for each of them to settle."""

    def __init__(self, channel: grpc.aio.Channel, http: aiohttp.ClientSession) -> None:
        self._flows = FlowServiceStub(channel)
        self._runs = RunServiceStub(channel)
        self._routes = RoutingServiceStub(channel)
        self._http = http

    async def create(self, *flows: Flow) -> None:
        """Save them, then wait until one run of each succeeds: its node is registered and routed.

        Raises:
            RuntimeError: none succeeded within 60 s; the last run's error is in the message.
        """
        for flow in flows:
            content = {"name": flow.name, "spec": {"steps": flow.steps}}
            document = HttpBody(content_type="application/json", data=orjson.dumps(content))
            request = ReplaceFlowRequest(flow_id=flow.name, document=document, allow_missing=True)
            await self._flows.ReplaceFlow(request, timeout=_SECONDS)
            last: RuntimeError | None = None
            try:
                async with asyncio.timeout(_READY_SECONDS):
                    while True:
                        try:
                            await self.run(flow)
                            break
                        except RuntimeError as error:
                            last = error
                        await asyncio.sleep(0.2)
            except TimeoutError:
                message = f"no run of {flow.name} succeeded within {_READY_SECONDS:g} s: {last}"
                raise RuntimeError(message) from None

    async def route(self, node: str, *targets: dict[str, Any]) -> int:
        """Replace the route of a node; its revision, once the proxy serves it.

        Raises:
            RuntimeError: the proxy does not serve it within 60 s.
        """
        document = HttpBody(content_type="application/json", data=orjson.dumps({"targets": targets}))
        request = routing.UpdateRouteRequest(node=node, document=document)
        route = await self._routes.UpdateRoute(request, timeout=_SECONDS)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while route.state != routing.Route.APPLIED:
                    await asyncio.sleep(0.1)
                    route = await self.read_route(node)
        except TimeoutError:
            raise RuntimeError(f"the proxy does not serve the new route of {node}: {route}") from None
        return int(route.revision)

    async def read_route(self, node: str) -> routing.Route:
        """Ask for a route."""
        return await self._routes.GetRoute(routing.GetRouteRequest(node=node), timeout=_SECONDS)

    async def run(self, flow: Flow) -> dict[str, Any]:
        """One run over gRPC; its final document."""
        body = HttpBody(content_type="application/json", data=orjson.dumps(flow.given))
        request = ExecuteFlowRequest(flow_id=flow.name, input=body, wait=_WAIT)
        return _checked((await self._runs.ExecuteFlow(request, timeout=_SECONDS)).data)

    async def start(self, flow: Flow) -> str:
        """A run that is not waited for; its id."""
        body = HttpBody(content_type="application/json", data=orjson.dumps(flow.given))
        request = ExecuteFlowRequest(flow_id=flow.name, input=body)
        answer = await self._runs.ExecuteFlow(request, timeout=_SECONDS)
        return str(orjson.loads(answer.data)["id"])

    async def run_rest(self, flow: Flow) -> dict[str, Any]:
        """One run over REST."""
        url = f"/api/flows/{flow.name}/execute?wait={_WAIT}"
        headers = {"content-type": "application/json"}
        async with self._http.post(url, data=orjson.dumps(flow.given), headers=headers) as response:
            return _checked(await response.read())


@asynccontextmanager
async def connected(stack: Stack) -> AsyncIterator[Client]:
    """A client of `stack`, with one connection for each protocol."""
    async with rpc.channel(stack.edge) as channel, aiohttp.ClientSession(f"http://{stack.edge}") as http:
        yield Client(channel, http)


def _checked(raw: bytes) -> dict[str, Any]:
    run: dict[str, Any] = orjson.loads(raw)
    if run.get("state") != "SUCCEEDED":
        raise RuntimeError(f"a run ended {run.get('state')}: {run.get('error') or run}")
    return run
