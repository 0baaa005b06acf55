"""What the mesh, the registry and the orchestrator rely on holds for every node version, over real gRPC."""

import asyncio
import socket
from contextlib import asynccontextmanager

import grpc
import orjson
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from jsonschema import Draft202012Validator

from reflux.api.node.v1 import node_service_pb2, node_service_pb2_grpc
from reflux.core.effect import EffectClass
from reflux.core.expression import compile_expression
from reflux.core.names import split_node
from reflux.core.reasons import Reason
from reflux.nodes import SHIPPED, catalog, load
from reflux.nodes.__main__ import VERSIONS
from reflux.registry import description as registry_description
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from reflux.sdk.claims import Claims
from reflux.sdk.serving import node_server
from tests.unit.sdk.served import orchestrator

SERVICE = "reflux.api.node.v1.NodeService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# An input per node that fits.
FITS = {
    "ai.chat": {"messages": [{"role": "user", "content": "hello"}]},
    "http.request": {"url": "http://127.0.0.1:1/"},
    "payment.charge": {
        "amount": 1999,
        "currency": "USD",
        "source": {"stripe": "pm_1", "paypal": "token-1", "square": "ccof:1"},
    },
    "payment.refund": {"id": "pi_1", "provider": "stripe", "amount": 1999, "currency": "USD"},
    "transform.execute": {"code": "return input", "input": {"a": 1}},
}
LOCAL: dict[str, str] = {}
"""Settings of a provider that only some tests have."""


@pytest.fixture(params=VERSIONS)
def version(request):
    return load(request.param)


@pytest.fixture
def slow(version, monkeypatch):
    """An input that takes longer than anybody waits; targets and providers accept and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for name in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{name}_API_KEY", "sk-nobody")
            monkeypatch.setenv(f"{name}_BASE_URL", url)
        for name in ("STRIPE_API_KEY", "PAYPAL_CLIENT_ID", "PAYPAL_CLIENT_SECRET", "SQUARE_ACCESS_TOKEN"):
            monkeypatch.setenv(name, "nobody")
        for name in ("STRIPE", "PAYPAL", "SQUARE"):
            monkeypatch.setenv(f"{name}_BASE_URL", url)
        monkeypatch.setitem(LOCAL, "ai_local_url", url)
        yield {
            "ai.chat": FITS["ai.chat"] | {"providers": {"local": {"model": "any"}}},
            "http.request": {"url": url, "timeout_ms": 60_000},
            "payment.charge": FITS["payment.charge"],
            "payment.refund": FITS["payment.refund"],
            "transform.execute": {"code": "while (true) {}", "timeout_ms": 10_000},
        }[version.node]


@asynccontextmanager
async def served(version, **options):
    settings = Settings(http_allow=("127.0.0.1/32",), **LOCAL)
    async with (
        Claims() as claims,
        node_server(version, settings, claims=claims, address=Address("127.0.0.1", 0), **options) as address,
    ):
        yield address


async def execute(channel, value, *, timeout=10, claim=""):
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    stub = node_service_pb2_grpc.NodeServiceStub(channel)
    metadata = (("x-reflux-claim-address", claim),) if claim else ()
    return await stub.Execute(node_service_pb2.ExecuteRequest(input=raw), timeout=timeout, metadata=metadata)


async def failure(channel, value, *, timeout=10, claim=""):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await execute(channel, value, timeout=timeout, claim=claim)
    return caught.value


def test_the_catalog_names_every_version_as_it_describes_itself():
    """The table of names is the truth of `reflux serve node`; a wrong row would start another version."""
    assert tuple(version.name for version in catalog()) == VERSIONS == tuple(SHIPPED)


async def test_it_describes_itself_completely(version):
    """Names, words, valid JSON Schemas that refuse unknown fields, an effect, bounds."""
    async with served(version) as address, rpc.channel(address) as channel:
        stub = node_service_pb2_grpc.NodeServiceStub(channel)
        description = await stub.Describe(node_service_pb2.DescribeRequest(), timeout=5)
    assert split_node(f"{description.node}@{description.version}") == (version.node, version.version)
    assert len(description.description) > 40
    for schema in (orjson.loads(description.input_schema), orjson.loads(description.output_schema)):
        Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["additionalProperties"] is False
    fits = Draft202012Validator(orjson.loads(description.input_schema))
    assert fits.is_valid(FITS[version.node])
    assert not fits.is_valid({**FITS[version.node], "unknown": 1})
    assert description.attempt_timeout.ToTimedelta().total_seconds() > 0
    assert description.max_concurrency > 0


def test_the_registry_takes_its_description(version):
    """Bounds on schemas and names, which would else be met at the first start."""
    assert len(registry_description.check(version.describe())) == 64


async def test_its_effect_is_known_for_the_shortest_input(version):
    """A constant class, or an expression that gives one for an input without optional fields."""
    effect = version.describe().effect
    if effect.expression:
        given = compile_expression(effect.expression).evaluate({"input": FITS[version.node]})
        assert given in set(EffectClass)
    else:
        assert getattr(effect, "class") != node_service_pb2.Effect.CLASS_UNSPECIFIED


async def test_it_speaks_health_and_reflection(version):
    """The mesh checks it, and a person can call it with any gRPC client."""
    async with served(version) as address:
        async with rpc.channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ("", SERVICE):
                request = health_pb2.HealthCheckRequest(service=service)
                assert (await stub.Check(request, timeout=5)).status == SERVING
        found = await asyncio.to_thread(_reflected, address)
    assert [method.name for method in found.methods] == [
        "Describe",
        "Execute",
        "ExecuteBatch",
        "Verify",
        "Cancel",
    ]


@pytest.mark.parametrize("value", [b"{", b"[]", b'{"unknown": 1}', b"null", b""])
async def test_input_that_does_not_fit_is_refused_with_its_place(version, value):
    """INVALID_ARGUMENT, INPUT_INVALID, at least one place; never retried by the mesh."""
    async with served(version) as address, rpc.channel(address) as channel:
        error = await failure(channel, value)
    told = rpc.read(error)
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INPUT_INVALID)
    assert told.violations
    assert told.metadata["outcome"] == "NO_EFFECT"
    assert "x-reflux-retry" not in dict(error.trailing_metadata())


async def test_oversized_input_is_refused(version):
    """1 MiB is the limit of every document."""
    async with served(version) as address, rpc.channel(address) as channel:
        told = rpc.read(await failure(channel, b'{"x": "' + b"x" * (1 << 20) + b'"}'))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.DOCUMENT_TOO_LARGE)


async def test_a_deadline_ends_the_call_and_the_version_serves_on(version, slow):
    """However long the work would take."""
    async with (
        orchestrator() as granting,
        served(version) as address,
        rpc.channel(address) as channel,
        asyncio.timeout(20),
    ):
        for _ in range(3):
            told = rpc.read(await failure(channel, slow, timeout=1, claim=granting.address))
            assert told.code is grpc.StatusCode.DEADLINE_EXCEEDED
        described = node_service_pb2_grpc.NodeServiceStub(channel)
        assert (await described.Describe(node_service_pb2.DescribeRequest(), timeout=5)).node == version.node


async def test_a_drain_is_announced_served_through_and_ends(version):
    """NOT_SERVING first, calls still taken while the mesh may not have noticed, then a closed port."""
    leaving, noticed = asyncio.Event(), asyncio.Event()

    async def drain():
        leaving.set()
        await noticed.wait()

    async with asyncio.timeout(20):
        server = served(version, on_drain=drain)
        address = await server.__aenter__()
        async with rpc.channel(address) as channel:
            assert rpc.read(await failure(channel, b"{}")).reason == Reason.INPUT_INVALID
            closing = asyncio.ensure_future(server.__aexit__(None, None, None))
            await leaving.wait()
            check = health_pb2.HealthCheckRequest(service=SERVICE)
            health = await health_pb2_grpc.HealthStub(channel).Check(check, timeout=5)
            assert health.status == NOT_SERVING
            assert rpc.read(await failure(channel, b"{}")).reason == Reason.INPUT_INVALID
            noticed.set()
            await closing
            assert (await failure(channel, b"{}", timeout=2)).code() is grpc.StatusCode.UNAVAILABLE


def _reflected(address):
    with grpc.insecure_channel(str(address)) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        return pool.FindServiceByName(SERVICE)
