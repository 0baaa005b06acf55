"""A real Envoy on the bootstrap that we ship, for as long as a block runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reflux.cli.stack import ports, wheels
from reflux.cli.stack.child import stop
from reflux.cli.stack.envoy import EnvoyProxy
from reflux.controlplane import bootstrap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a running Envoy is reached."""

    edge: int
    mesh: int
    admin: int
    name: str
    pid: int
    statistics: int = 0
    """Of the read-only listener; 0: there is none."""

    def pause(self) -> None:
        """Stop the process where it stands: its connections stay, and it says nothing any more."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def admin_get(self, path: str) -> str:
        """The answer of the admin interface."""
        return await self._admin("GET", path)

    async def admin_post(self, path: str) -> str:
        """Change something through the admin interface."""
        return await self._admin("POST", path)

    async def _admin(self, method: str, path: str) -> str:
        def send() -> str:
            request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", method=method)
            with urllib.request.urlopen(request, timeout=5) as reply:
                return reply.read().decode()

        return await asyncio.to_thread(send)

    async def config(self) -> dict[str, Any]:
        """What Envoy says it runs."""
        return json.loads(await self.admin_get("/config_dump?include_eds"))

    async def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match."""
        lines = (await self.admin_get(f"/stats?filter={pattern}")).splitlines()
        return {name: int(value) for name, _, value in (line.rpartition(": ") for line in lines)}


@asynccontextmanager
async def envoy(
    folder: Path,
    *,
    cluster: str,
    name: str = "envoy-1",
    live: bool = True,
    stats: bool = False,
    tls_dir: Path | None = None,
    change: Callable[[dict[str, Any]], None] | None = None,
    **upstreams: int,
) -> AsyncIterator[Proxy]:
    """Start Envoy; `upstreams` are loopback ports by name, those not given lead nowhere.

    `change` may alter the bootstrap.
    """
    edge, mesh, admin, nowhere, statistics = ports.free_ports(5)
    addresses: Mapping[str, tuple[str, int]] = {
        upstream: ("127.0.0.1", upstreams.get(upstream, nowhere))
        for upstream in ("controlplane", "orchestrator", "registry", "gateway")
    }
    document = bootstrap.render(
        edge=("127.0.0.1", edge),
        mesh=("127.0.0.1", mesh),
        admin=("127.0.0.1", admin),
        upstreams=addresses,
        node_id=name,
        node_cluster=cluster,
        stats=("127.0.0.1", statistics) if stats else None,
        tls_dir=tls_dir,
    )
    if change is not None:
        change(document)
    proxy = EnvoyProxy(folder / name, wheels.envoy_program(), document, admin, folder / f"{name}.log")
    await proxy.prepare()
    process = proxy.start()
    try:
        async with asyncio.timeout(START_SECONDS):
            while live and not await proxy.ready():
                assert process.poll() is None, (folder / f"{name}.log").read_text()
                await asyncio.sleep(0.02)
        yield Proxy(edge, mesh, admin, name, process.pid, statistics if stats else 0)
    finally:
        await stop(process, signal.SIGKILL, 5)
