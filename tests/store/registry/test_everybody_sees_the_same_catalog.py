"""The catalog is one, however many registries serve it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.core.reasons import Reason
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_a_change_through_one_registry_reaches_watchers_of_another(running: Callable[..., Any]) -> None:
    """Within about a second, as a whole catalog with a higher revision."""
    async with running() as one, running() as other, asyncio.timeout(20):
        watch = aiter(other.endpoints.WatchCatalog(pb.WatchCatalogRequest()))
        before = await anext(watch)
        await one.register()
        after = await anext(watch)
        while not after.versions:
            after = await anext(watch)
        assert after.revision > before.revision
        assert [(each.node, each.version) for each in after.versions] == [("echo", "1.0.0")]
        assert [each.address for each in after.versions[0].endpoints] == ["127.0.0.1:9000"]


async def test_nodes_are_listed_by_name_in_pages(running: Callable[..., Any]) -> None:
    """With their versions, the newest first."""
    async with running() as registry, asyncio.timeout(20):
        for number, (node, version) in enumerate((("b", "1.0.0"), ("a", "9.0.0"), ("a", "8.0.0"))):
            await registry.register(node, version, address=f"127.0.0.1:{9000 + number}")
        await registry.shows("127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002")
        first = await registry.catalog.ListNodes(pb.ListNodesRequest(page_size=1))
        assert [(each.name, list(each.versions)) for each in first.nodes] == [("a", ["8.0.0", "9.0.0"])]
        rest = await registry.catalog.ListNodes(pb.ListNodesRequest(page_token=first.next_page_token))
        assert [each.name for each in rest.nodes] == ["b"]
        assert not rest.next_page_token


async def test_schemas_come_as_the_node_wrote_them(running: Callable[..., Any]) -> None:
    """As documents of their own, with the media type of JSON Schema."""
    async with running() as registry, asyncio.timeout(20):
        schema = b'{"type":  "object"}'
        await registry.register(input_schema=schema)
        await registry.shows("127.0.0.1:9000")
        body = await registry.catalog.GetInputSchema(pb.GetInputSchemaRequest(node="echo", version="1.0.0"))
        assert (body.content_type, body.data) == ("application/schema+json", schema)


async def test_what_is_unknown_is_named(running: Callable[..., Any]) -> None:
    """An unknown node and an unknown version are two different mistakes."""
    async with running() as registry, asyncio.timeout(20):
        await registry.register()
        await registry.shows("127.0.0.1:9000")
        unknown = [
            (registry.catalog.GetNode(pb.GetNodeRequest(node="eco")), Reason.NODE_NOT_FOUND),
            (
                registry.catalog.GetNodeVersion(pb.GetNodeVersionRequest(node="echo", version="2")),
                Reason.NODE_VERSION_NOT_FOUND,
            ),
            (
                registry.catalog.GetInputSchema(pb.GetInputSchemaRequest(node="echo", version="2")),
                Reason.NODE_VERSION_NOT_FOUND,
            ),
        ]
        for call, reason in unknown:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert (refused.value.code(), rpc.read(refused.value).reason) == (
                grpc.StatusCode.NOT_FOUND,
                reason,
            )
