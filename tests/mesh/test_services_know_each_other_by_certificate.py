"""Mutual TLS between the real processes: who has no good certificate of the right role is refused."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflux.api.registry.v1 import registry_service_pb2 as registry_pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub
from reflux.cli import authority
from reflux.cli.stack import ports
from reflux.runtime import health, proxies, rpc, secure_channel, tls
from reflux.runtime.settings import Address
from reflux.runtime.tls import Identity, Role
from tests.mesh.support.secured import VERSION, certificates, code_of, expired, node_process, secured_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.mesh.support.secured import Secured

LISTENERS = (Role.REGISTRY, Role.CONTROLPLANE, Role.MESH, Role.NODE)
UNREACHED = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
async def secured(database_dsn: str, tmp_path: Path) -> AsyncIterator[Secured]:
    """All of it, answering calls."""
    async with secured_on(database_dsn, tmp_path) as running:
        await running.answered()
        yield running


async def health_of(channel: grpc.aio.Channel) -> grpc.StatusCode:
    """What becomes of the call that everybody with a certificate may make."""
    stub = health_pb2_grpc.HealthStub(channel)
    return await stub.Check(health_pb2.HealthCheckRequest(), timeout=10).code()


async def test_who_shows_no_good_certificate_gets_no_connection(secured: Secured, tmp_path: Path) -> None:
    """Plaintext, no certificate, one that has expired, one of another authority: refused by the registry, the
    control plane, the mesh proxy and the node, while the right one is let in by all of them.
    """
    strangers = certificates(tmp_path / "strangers")
    old = expired(tmp_path / "old", secured.certs, Role.ORCHESTRATOR)
    believed = (secured.certs / "authority.pem").read_bytes()
    for listener in LISTENERS:
        address, options = secured.addresses[listener], tls.target_options(listener)
        foreign = Identity(strangers / Role.ORCHESTRATOR).read()
        # It believes our authority, so it is refused for what it shows and not because it refuses.
        shown = grpc.ssl_channel_credentials(believed, foreign.key, foreign.chain)
        async with (
            rpc.channel(address) as plaintext,
            grpc.aio.secure_channel(str(address), grpc.ssl_channel_credentials(believed), options) as nothing,
            rpc.channel(address, listener, old) as late,
            grpc.aio.secure_channel(str(address), shown, options) as stranger,
            rpc.channel(address, listener, secured.identity(Role.ORCHESTRATOR)) as right,
        ):
            found = {
                "plaintext": await health_of(plaintext),
                "no certificate": await health_of(nothing),
                "expired": await health_of(late),
                "another authority": await health_of(stranger),
            }
            assert found == dict.fromkeys(found, UNREACHED), listener
            assert await health_of(right) is not UNREACHED, listener


async def test_a_call_with_faults_knows_the_node_by_its_certificate(secured: Secured) -> None:
    """The way through the internal listener ends in TLS as every other; what is lost on it was acted on."""
    assert await secured.with_faults() is grpc.StatusCode.OK
    assert await secured.with_faults(abort="8") is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await secured.with_faults(delay="1") is grpc.StatusCode.OK
    assert await secured.with_faults(drop="1") is grpc.StatusCode.UNAVAILABLE
    shown = await secured.proxy.admin_get("/clusters")
    for cluster in (VERSION, f"{VERSION}!drop"):
        assert f"{cluster}::" in shown
    stats = await secured.proxy.admin_get(f"/stats?filter={VERSION}!drop.ssl.handshake")
    assert stats.strip().endswith(": 1")


async def test_a_role_may_call_only_what_it_needs(secured: Secured) -> None:
    """The names are right, the roles are wrong: a node does not call nodes, a proxy registers nobody."""
    for role in Role:
        code = await secured.code(secured.identity(role))
        assert code is (grpc.StatusCode.OK if role is Role.ORCHESTRATOR else UNREACHED), role
        async with rpc.channel(secured.addresses[Role.REGISTRY], Role.REGISTRY, secured.identity(role)) as at:
            call = EndpointServiceStub(at).RenewEndpoint(
                registry_pb.RenewEndpointRequest(endpoint_id="nobody"), timeout=10
            )
            let_in = role in {Role.NODE, Role.CONTROLPLANE, Role.ORCHESTRATOR}
            code = await call.code()
            expected = grpc.StatusCode.INVALID_ARGUMENT if let_in else grpc.StatusCode.UNAUTHENTICATED
            assert code is expected, role


async def test_a_caller_refuses_who_is_not_whom_it_wants(secured: Secured, tmp_path: Path) -> None:
    """The address is right and the certificate is ours, but of another role, expired, or of a stranger."""
    strangers = certificates(tmp_path / "strangers")
    me = secured.identity(Role.ORCHESTRATOR)
    for listener in LISTENERS:
        address = secured.addresses[listener]
        for role in Role:
            async with rpc.channel(address, role, me) as channel:
                assert (await health_of(channel) is not UNREACHED) == (role is listener), (listener, role)
        async with rpc.channel(address, listener, Identity(strangers / Role.ORCHESTRATOR)) as channel:
            assert await health_of(channel) is UNREACHED


async def test_several_proxies_are_found_by_certificate(secured: Secured) -> None:
    """A list of addresses is asked for the same name; where nobody answers, the others do."""
    (nobody,) = (Address("127.0.0.1", port) for port in ports.free_ports(1))
    update = {
        "mesh_addresses": (nobody, secured.addresses[Role.MESH]),
        "tls_dir": secured.certs / Role.ORCHESTRATOR,
    }
    async with proxies.channel(secured.settings.model_copy(update=update)) as channel:
        assert {await code_of(channel) for _ in range(10)} == {grpc.StatusCode.OK}


@pytest.mark.parametrize("shown", ["another role", "expired", "plaintext"])
async def test_the_proxy_gives_no_call_to_a_node_that_is_none(
    database_dsn: str, tmp_path: Path, shown: str
) -> None:
    """It is in the catalog, at an address that answers, and shows the wrong certificate or none."""
    async with secured_on(database_dsn, tmp_path) as secured:
        await secured.answered()
        async with _impostor(secured, tmp_path, shown) as port:
            await _take_over(secured, port)
            codes = {await secured.code() for _ in range(5)}
            assert codes == {UNREACHED}


def _impostor(secured: Secured, folder: Path, shown: str):
    from contextlib import asynccontextmanager

    from reflux.runtime.service import grpc_server

    @asynccontextmanager
    async def serve():
        identity = {
            "another role": lambda: secured.identity(Role.GATEWAY),
            "expired": lambda: expired(folder / "old", secured.certs, Role.NODE),
            "plaintext": lambda: None,
        }[shown]()
        listening = grpc_server(
            address=Address("127.0.0.1", 0), register=[], services=[], identity=identity, drain_seconds=0
        )
        async with listening as bound:
            yield bound.port

    return serve()


async def _take_over(secured: Secured, port: int) -> None:
    """Register the impostor as the one endpoint of the version, and wait until the proxy has it."""
    from reflux.nodes import load

    registry = secured.addresses[Role.REGISTRY]
    async with rpc.channel(registry, Role.REGISTRY, secured.identity(Role.NODE)) as channel:
        stub = EndpointServiceStub(channel)
        description = load("transform.execute@1.0.0").describe()
        catalog = await anext(aiter(stub.WatchCatalog(registry_pb.WatchCatalogRequest())))
        (known,) = (each for version in catalog.versions for each in version.endpoints)
        await stub.RegisterEndpoint(
            registry_pb.RegisterEndpointRequest(description=description, address=f"127.0.0.1:{port}"),
            timeout=10,
        )
        await stub.RemoveEndpoint(registry_pb.RemoveEndpointRequest(endpoint_id=known.id), timeout=10)
    async with asyncio.timeout(30):
        while f"127.0.0.1:{port}" not in (clusters := await secured.proxy.admin_get("/clusters")) or (
            known.address in clusters
        ):
            await asyncio.sleep(0.05)


async def test_certificates_are_replaced_without_a_restart(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are made anew: every listener shows the new one, an open channel goes over to it, and not one
    of the calls that are made meanwhile fails.
    """
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.1)
    before = {listener: await _serial(secured, listener) for listener in LISTENERS}
    mesh = secured.addresses[Role.MESH]
    async with rpc.channel(mesh, Role.MESH, secured.identity(Role.ORCHESTRATOR)) as channel:
        assert isinstance(channel, secure_channel.SecureChannel)
        codes: list[grpc.StatusCode] = []
        end = asyncio.Event()

        async def call_on() -> None:
            while not end.is_set():
                codes.append(await code_of(channel))

        calling = asyncio.ensure_future(call_on())
        authority.make(secured.certs, Role, days=90, renew_days=0, now=authority.utc_now(), anew=True)
        async with asyncio.timeout(30):
            for listener in LISTENERS:
                while await _serial(secured, listener) == before[listener]:
                    await asyncio.sleep(0.1)
            while not channel.generation:
                await asyncio.sleep(0.1)
        done = len(codes)
        while len(codes) < done + 5:
            await asyncio.sleep(0.05)
        end.set()
        await calling
    assert set(codes) == {grpc.StatusCode.OK}


async def _serial(secured: Secured, listener: Role) -> int:
    """Of the certificate that is shown there."""
    address: Address = secured.addresses[listener]
    context = ssl.create_default_context(cafile=str(secured.certs / "authority.pem"))
    context.load_cert_chain(secured.certs / Role.ORCHESTRATOR / "identity.pem")
    context.set_alpn_protocols(["h2"])
    name = listener.name_in_certificates
    _, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_the_health_check_shows_the_certificate_of_who_is_asked(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs beside the process, with its folder; with none it is refused as anybody is."""
    address = str(secured.addresses[Role.REGISTRY])
    assert await asyncio.to_thread(health.problem, address) is not None
    monkeypatch.setenv("REFLUX_TLS_DIR", str(secured.certs / Role.REGISTRY))
    assert await asyncio.to_thread(health.problem, address) is None


async def test_a_node_without_a_good_certificate_is_never_registered(
    secured: Secured, tmp_path: Path
) -> None:
    """Its process serves and asks on; the registry does not let it in."""
    from reflux.cli.stack import ports

    (port,) = ports.free_ports(1)
    strangers = certificates(tmp_path / "strangers")
    with node_process(tmp_path, secured.settings, strangers / Role.NODE, port):
        async with asyncio.timeout(60):
            while "registry_away" not in (tmp_path / f"node-{port}.log").read_text():
                await asyncio.sleep(0.1)
    assert f":{port}" not in await secured.proxy.admin_get("/clusters")
