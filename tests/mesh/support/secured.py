"""Registry, control plane, one mesh proxy and one real node process, all of them with certificates."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.cli import authority
from reflux.cli.stack import ports
from reflux.controlplane import __main__ as controlplane
from reflux.registry import __main__ as registry
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from reflux.runtime.tls import Identity, Role
from tests.mesh.support.proxy import envoy
from tests.support.orchestrators import environment_of
from tests.support.service import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.mesh.support.proxy import Proxy

VERSION = "transform.execute@1.0.0"
CALL = pb.ExecuteRequest(input=b'{"code": "return 2"}')
HEADERS = (("x-reflux-node", "transform.execute"), ("x-reflux-lane", "safe"), ("x-reflux-run-id", "r"))


@dataclass(frozen=True, slots=True)
class Secured:
    """What a test holds."""

    certs: Path
    addresses: dict[Role, Address]
    """Where each listens."""
    proxy: Proxy
    settings: Settings

    def identity(self, role: Role) -> Identity:
        """That of a role."""
        return Identity(self.certs / role)

    async def code(self, identity: Identity | None = None, *, role: Role = Role.MESH) -> grpc.StatusCode:
        """What becomes of a call through the mesh, with the orchestrator's identity if none is given."""
        shown = identity or self.identity(Role.ORCHESTRATOR)
        async with rpc.channel(self.addresses[Role.MESH], role, shown) as channel:
            return await code_of(channel)

    async def with_faults(self, **faults: str) -> grpc.StatusCode:
        """What becomes of a call that says what it shall meet, such as abort="8"."""
        said = (
            ("x-reflux-fault", "1"),
            *((f"x-reflux-fault-{kind}", value) for kind, value in faults.items()),
        )
        identity = self.identity(Role.ORCHESTRATOR)
        async with rpc.channel(self.addresses[Role.MESH], Role.MESH, identity) as channel:
            call = NodeServiceStub(channel).Execute(CALL, timeout=20, metadata=(*HEADERS, *said))
            return await call.code()

    async def answered(self) -> None:
        """Wait until a call of the orchestrator is answered."""
        async with asyncio.timeout(60):
            while await self.code() is not grpc.StatusCode.OK:
                await asyncio.sleep(0.05)


async def code_of(channel: grpc.aio.Channel) -> grpc.StatusCode:
    """What becomes of a call of the node."""
    call = NodeServiceStub(channel).Execute(CALL, timeout=20, metadata=HEADERS)
    return await call.code()


def certificates(folder: Path, *, days: int = 90, at: datetime | None = None) -> Path:
    """All identities, under an authority of their own."""
    now = datetime.now(UTC)
    authority.make(folder, Role, days=days, renew_days=0, now=at or now)
    return folder


def expired(folder: Path, of: Path, role: Role) -> Identity:
    """An identity that the authority in `of` has signed and that has expired."""
    import shutil

    shutil.copytree(of, folder)
    then = datetime.now(UTC) - timedelta(days=9)
    authority.make(folder, [role], days=8, renew_days=0, now=then, anew=True)
    return Identity(folder / role)


@contextmanager
def node_process(
    folder: Path, settings: Settings, tls_dir: Path, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """`reflux serve node` with this identity."""
    more = {
        "registry_address": str(settings.registry_address),
        "node_port": port,
        "tls_dir": str(tls_dir),
        "log_format": "json",
    }
    with (folder / f"node-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "reflux.cli", "serve", "node", VERSION],
            env=environment_of(more),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def secured_on(dsn: str, folder: Path, *, node_role: Role = Role.NODE) -> AsyncIterator[Secured]:
    """Everything, on a migrated database; the node shows the certificate of `node_role`."""
    certs = certificates(folder / "certs")
    one, two, three = (Address("127.0.0.1", port) for port in ports.free_ports(3))
    settings = Settings.load(postgres_dsn=dsn, registry_address=one, controlplane_address=two, faults="test")

    def own(role: Role) -> Settings:
        return settings.model_copy(update={"tls_dir": certs / role})

    async with (
        serving(registry.serve, own(Role.REGISTRY)),
        serving(controlplane.serve, own(Role.CONTROLPLANE)),
        envoy(folder, cluster="mesh", controlplane=two.port, tls_dir=certs / Role.MESH) as proxy,
    ):
        with node_process(folder, settings, certs / node_role, three.port):
            addresses = {
                Role.REGISTRY: one,
                Role.CONTROLPLANE: two,
                Role.MESH: Address("127.0.0.1", proxy.mesh),
                Role.NODE: three,
            }
            yield Secured(certs, addresses, proxy, settings)
