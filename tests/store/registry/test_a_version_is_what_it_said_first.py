"""Callers rely on a version's description, so it never changes under its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.core.reasons import Reason
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import Callable


SLOT = node_pb.CredentialSlot(name="shop", description="A shop's.", kinds=["bearer"], default=True)


@pytest.mark.parametrize(
    "change",
    [
        {"description": "Something else."},
        {"input_schema": b'{"type": "object"}'},
        {"output_schema": b'{"type": "object"}'},
        {"effect": node_pb.Effect(**{"class": node_pb.Effect.PURE})},
    ],
)
async def test_another_description_is_refused(running: Callable[..., Any], change: dict[str, Any]) -> None:
    """With the advice to give it a new version; the endpoint that is there stays."""
    async with running() as registry:
        await registry.register()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await registry.register(address="127.0.0.1:9001", **change)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert rpc.read(refused.value).reason == Reason.DESCRIPTION_CONFLICT
        await registry.shows("127.0.0.1:9000")


async def test_the_same_description_is_welcome(running: Callable[..., Any]) -> None:
    """Whatever the spelling of its schemas; what a deployment may tune follows the newest."""
    async with running() as registry:
        await registry.register(input_schema=b'{"type": "object", "title": "x"}')
        await registry.register(
            address="127.0.0.1:9001",
            input_schema=b'{ "title":"x","type":"object" }',
            max_concurrency=99,
            batchable=True,
            credentials=[SLOT],
        )
        await registry.shows("127.0.0.1:9000", "127.0.0.1:9001")
        listed = await registry.catalog.ListNodeVersions(pb.ListNodeVersionsRequest(node="echo"), timeout=10)
        shown = [(each.version, each.max_concurrency, each.batchable) for each in listed.versions]
        assert shown == [("1.0.0", 99, True)]
        assert list(listed.versions[0].credentials) == [SLOT]


async def test_a_description_with_problems_is_refused_with_all_of_them(running: Callable[..., Any]) -> None:
    """Each with its field."""
    async with running() as registry:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await registry.register(
                "Echo!",
                "",
                input_schema=b"{",
                output_schema=b'{"type": 7}',
                max_concurrency=0,
                credentials=[SLOT, SLOT, node_pb.CredentialSlot(name="A slot", kinds=["?"])],
            )
        failure = rpc.read(refused.value)
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert {each.pointer.removeprefix("description.") for each in failure.violations} == {
            "node",
            "version",
            "input_schema",
            "output_schema",
            "max_concurrency",
            "credentials",
            "credentials[1].name",
            "credentials[2].name",
            "credentials[2]",
        }


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"input_schema": b'{"not":' * 200 + b"{}" + b"}" * 200}, "input_schema"),
        ({"effect": node_pb.Effect(expression="input.dry_run ?")}, "effect.expression"),
        ({"effect": node_pb.Effect(expression="true || " * 1000 + "true")}, "effect.expression"),
        ({"effect": node_pb.Effect(scope="s" * 300)}, "effect.scope"),
    ],
)
async def test_a_description_has_bounds(
    running: Callable[..., Any], change: dict[str, Any], place: str
) -> None:
    """Whatever is registered is kept for ever and sent to everybody who watches the catalog."""
    async with running() as registry:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await registry.register(**change)
        failure = rpc.read(refused.value)
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [each.pointer for each in failure.violations] == [f"description.{place}"]


@pytest.mark.parametrize("address", ["node.example:9000", "9000", "127.0.0.1:", "127.0.0.1:0", "0.0.0.0:80"])
async def test_an_address_that_cannot_be_called_is_refused(running: Callable[..., Any], address: str) -> None:
    """Envoy takes ip:port for endpoints and nothing else."""
    async with running() as registry:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await registry.register(address=address)
        assert rpc.read(refused.value).violations[0].pointer == "address"


async def test_an_empty_host_is_where_the_caller_is(running: Callable[..., Any]) -> None:
    """A node in a container need not know its own address."""
    async with running() as registry:
        await registry.register(address=":9100")
        await registry.shows("127.0.0.1:9100")
