"""Endpoints of a version as real node processes over registry, control plane and Envoy: drained, killed, cut.

Envoy may not try again here, so a call that fails anywhere is seen as a failure.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from reflux.runtime import rpc
from tests.mesh.support.platform import platform_on
from tests.support.orchestrators import environment_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.mesh.support.platform import Platform

VERSION = "transform.execute@1.0.0"
NODE = "transform.execute"
LEASE = 2.0
INPUT = json.dumps({"code": "return 1 + 1"}).encode()


@dataclass(slots=True)
class Load:
    """Calls made one after the other by several callers, and what became of them."""

    platform: Platform
    headers: tuple[tuple[str, str], ...]
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    async def _call_on(self) -> None:
        while not self._end.is_set():
            await self._call()

    async def _call(self) -> None:
        try:
            await self.platform.mesh.Execute(
                pb.ExecuteRequest(input=INPUT), timeout=60, metadata=self.headers
            )
            self.answered += 1
        except grpc.aio.AioRpcError as error:
            self.failed.append(f"{error.code().name}: {error.details()}")

    async def more(self, count: int) -> None:
        """Wait until so many more calls have been answered."""
        goal = self.answered + count
        async with asyncio.timeout(60):
            while self.answered < goal:
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def running(self, callers: int) -> AsyncIterator[Load]:
        """Call all the while, once Envoy has the route: that comes after the endpoints."""
        async with asyncio.timeout(60):
            while not self.answered:
                await self._call()
        self.failed.clear()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._call_on())
            try:
                yield self
            finally:
                self._end.set()


@pytest.fixture
async def platform(database_dsn: str, tmp_path: Path) -> AsyncIterator[Platform]:
    """With short leases."""
    async with platform_on(database_dsn, tmp_path, lease_seconds=LEASE) as running:
        yield running


def load(platform: Platform, *, tries_again: bool) -> Load:
    """Callers of the node; those without `tries_again` forbid Envoy every second try."""
    headers = [("x-reflux-node", NODE), ("x-reflux-lane", "broad"), ("x-reflux-run-id", "r")]
    if not tries_again:
        headers.append(("x-envoy-max-retries", "0"))
    return Load(platform, tuple(headers))


@asynccontextmanager
async def node_process(platform: Platform, log: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """`reflux serve node VERSION`, gone after the block."""
    settings: dict[str, Any] = {
        "registry_address": str(platform.settings.registry_address),
        "log_format": "json",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "reflux.cli", "serve", "node", VERSION],
            env=environment_of(settings),
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def endpoints(platform: Platform) -> int:
    """How many endpoints of the version the registry knows."""
    async with rpc.channel(platform.settings.registry_address) as channel:
        stub = RegistryServiceStub(channel)
        try:
            answer = await stub.ListNodeVersions(registry_pb.ListNodeVersionsRequest(node=NODE), timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return 0
    return sum(len(each.endpoints) for each in answer.versions)


async def until(platform: Platform, count: int) -> None:
    """Wait until the registry knows so many and Envoy balances over them."""
    name = rf"cluster\.{VERSION}\.membership_total"
    async with asyncio.timeout(60):
        while await endpoints(platform) != count or list((await platform.proxy.stats(name)).values()) != [
            count
        ]:
            await asyncio.sleep(0.02)


async def test_sigterm_drains_an_endpoint_without_a_failed_call(platform: Platform, tmp_path: Path) -> None:
    """It leaves the mesh, finishes what it has, and ends; nobody needs a second try."""
    async with (
        node_process(platform, tmp_path / "one.log") as one,
        node_process(platform, tmp_path / "two.log"),
    ):
        await until(platform, 2)
        async with load(platform, tries_again=False).running(4) as calls:
            await calls.more(20)
            one.send_signal(signal.SIGTERM)
            await until(platform, 1)
            await asyncio.to_thread(one.wait, 30)
            await calls.more(20)
    assert one.returncode == 0
    assert calls.failed == []


async def test_an_endpoint_that_joins_fails_no_call(platform: Platform, tmp_path: Path) -> None:
    """It is known only when it can be called."""
    async with node_process(platform, tmp_path / "one.log"):
        await until(platform, 1)
        async with load(platform, tries_again=False).running(4) as calls:
            await calls.more(10)
            async with node_process(platform, tmp_path / "two.log"):
                await until(platform, 2)
                await calls.more(40)
                assert calls.failed == []


async def test_a_killed_endpoint_loses_its_traffic_at_once_and_its_place_with_the_lease(
    platform: Platform, tmp_path: Path
) -> None:
    """Five refused connections put it out, long before the registry has noticed; pure calls with a second try
    have it on the other endpoint, so none fails.
    """
    async with (
        node_process(platform, tmp_path / "one.log") as one,
        node_process(platform, tmp_path / "two.log"),
    ):
        await until(platform, 2)
        await platform.put(
            json.dumps({"targets": [{"version": "1.0.0", "weight": 10_000, "tries": 2}]}), node=NODE
        )
        ejected = rf"cluster\.{VERSION}\.outlier_detection\.ejections_active"
        async with load(platform, tries_again=True).running(4) as calls:
            await calls.more(20)
            began = asyncio.get_running_loop().time()
            one.kill()
            async with asyncio.timeout(30):
                while list((await platform.proxy.stats(ejected)).values()) != [1]:
                    assert await endpoints(platform) == 2, "the lease was over before its ejection"
                    await asyncio.sleep(0.01)
            out = asyncio.get_running_loop().time() - began
            await until(platform, 1)
            await calls.more(20)
    assert calls.failed == []
    assert out < LEASE
