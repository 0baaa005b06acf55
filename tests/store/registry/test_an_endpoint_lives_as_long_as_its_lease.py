"""Leases decide who is called; only the database's clock decides about leases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
import pytest

from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.core.reasons import Reason
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_without_renewal_it_leaves_the_catalog(running: Callable[..., Any]) -> None:
    """The version stays known, as ABSENT; renewing says that it is too late."""
    async with running(lease=0.5) as registry:
        endpoint = await registry.register()
        await registry.shows("127.0.0.1:9000")
        await registry.shows()
        found = await registry.catalog.GetNodeVersion(
            pb.GetNodeVersionRequest(node="echo", version="1.0.0"), timeout=10
        )
        assert found.state == pb.NodeVersion.ABSENT
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await registry.renew(endpoint)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert rpc.read(refused.value).reason == Reason.LEASE_EXPIRED


async def test_renewed_it_stays(running: Callable[..., Any]) -> None:
    """For longer than its first lease."""
    async with running(lease=2.0) as registry:
        endpoint = await registry.register()
        await registry.shows("127.0.0.1:9000")
        loop = asyncio.get_running_loop()
        end = loop.time() + 3.0
        while loop.time() < end:
            await registry.renew(endpoint)
            assert await registry.addresses() == ["127.0.0.1:9000"]
            await asyncio.sleep(0.1)


async def test_removed_it_is_gone_at_once(running: Callable[..., Any]) -> None:
    """Removing it twice is fine: a node that drains must not fail."""
    async with running() as registry:
        endpoint = await registry.register()
        await registry.shows("127.0.0.1:9000")
        for _ in range(2):
            await registry.endpoints.RemoveEndpoint(
                pb.RemoveEndpointRequest(endpoint_id=endpoint), timeout=10
            )
        await registry.shows()


async def test_a_registry_that_comes_back_gives_one_lease_of_grace(
    running: Callable[..., Any], database_dsn: str
) -> None:
    """Nobody could renew while it was away, so nobody is taken out for that."""
    async with running(lease=10.0) as registry:
        endpoint = await registry.register()
        await registry.shows("127.0.0.1:9000")
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:
        await connection.execute("UPDATE registry.endpoints SET lease_until = now() - interval '1 hour'")
    async with running(lease=10.0) as registry:
        assert await registry.addresses() == ["127.0.0.1:9000"]
        await registry.renew(endpoint)


async def test_who_registers_an_address_last_is_who_listens_there(running: Callable[..., Any]) -> None:
    """A process that restarted on its port replaces the one that died, without waiting for its lease."""
    async with running() as registry:
        before = await registry.register()
        await registry.register(version="2.0.0")
        await registry.shows("127.0.0.1:9000")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await registry.renew(before)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
