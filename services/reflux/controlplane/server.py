"""ADS on the wire: one bidirectional stream per proxy, between gRPC and a Subscription.

Messages are those of Envoy's own descriptors (`envoy.xds`), served by a generic handler, so no generated code
is needed. A stream has one reader and one pusher; a lock keeps what is computed and what is written in one
order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc

from reflux.controlplane import metrics
from reflux.controlplane.envoy import xds
from reflux.controlplane.snapshot import Proxy
from reflux.controlplane.subscription import Request
from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason
from reflux.runtime import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from reflux.controlplane.fleet import Fleet, Link
    from reflux.controlplane.subscription import Response

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_REQUEST: Final = "envoy.service.discovery.v3.DiscoveryRequest"
_RESPONSE: Final = "envoy.service.discovery.v3.DiscoveryResponse"

log = logs.get_logger("ads")


def handler(fleet: Fleet) -> grpc.GenericRpcHandler:
    """The service, for `grpc.aio.Server.add_generic_rpc_handlers`."""
    servicer = _Discovery(fleet)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.stream,
        request_deserializer=xds.message_class(_REQUEST).FromString,
        response_serializer=xds.message_class(_RESPONSE).SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamAggregatedResources": method})


class _Discovery:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def stream(self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Serve one proxy until it leaves."""
        first = await anext(requests, None)
        if first is None:
            return
        proxy = _introduced(first.node)
        log.info("proxy_connected", proxy=proxy.name)
        try:
            with self._fleet.connected(proxy) as link:
                await self._converse(link, first, requests, context)
        finally:
            log.info("proxy_gone", proxy=proxy.name)

    async def _converse(
        self,
        link: Link,
        first: Any,
        requests: AsyncIterator[Any],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        lock = asyncio.Lock()

        async def receive(message: Any) -> None:
            request = _request(message)
            if request.error:
                metrics.REFUSALS.at(request.kind).add()
                log.error("proxy_refused", proxy=link.proxy.name, type=request.kind, error=request.error)
            async with lock:
                await _write(context, link.subscription.receive(request))
            self._fleet.answered()

        async def push() -> None:
            while True:
                await link.wake.wait()
                link.wake.clear()
                async with lock:
                    snapshot = self._fleet.snapshot
                    if snapshot is not None and snapshot is not link.snapshot:
                        link.snapshot = snapshot
                        await _write(context, link.subscription.push(snapshot.view(link.proxy)))

        async with asyncio.TaskGroup() as tasks:
            pusher = tasks.create_task(push())
            await receive(first)
            async for message in requests:
                await receive(message)
            pusher.cancel()


async def _write(context: grpc.aio.ServicerContext[Any, Any], responses: Sequence[Response]) -> None:
    for response in responses:
        url = xds.type_url(response.kind)
        message: Any = xds.message_class(_RESPONSE)(
            version_info=response.version, nonce=response.nonce, type_url=url
        )
        for resource in response.resources:
            message.resources.add(type_url=url, value=resource)
        await context.write(message)


def _introduced(node: Any) -> Proxy:
    """Who a proxy is, from the `node` of its first request (see the bootstraps).

    Raises:
        InvalidArgument: it has no id, or does not say where its mesh listener binds.
    """
    if not node.id:
        raise InvalidArgument(Reason.ARGUMENT_INVALID, "node.id of the bootstrap is empty")
    if node.cluster == "edge":
        return Proxy(node.id, None)
    fields = node.metadata.fields["reflux"].struct_value.fields
    host, port = fields["mesh_address"].string_value, int(fields["mesh_port"].number_value)
    if not host or not port:
        message = "node.metadata.reflux of the bootstrap needs mesh_address and mesh_port"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message)
    return Proxy(node.id, (host, port), fields["tls_dir"].string_value or None)


def _request(message: Any) -> Request:
    """What a proxy says. A refusal without words is one all the same."""
    words = message.error_detail.message or "refused without a word"
    return Request(
        kind=message.type_url.rpartition("/")[2],
        names=frozenset(message.resource_names),
        nonce=message.response_nonce,
        error=words if message.HasField("error_detail") else "",
    )
