"""A node version registers, renews, registers anew when forgotten, and leaves before it stops."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflux.core.effect import EffectClass
from reflux.runtime import rpc
from reflux.runtime.settings import Address, Settings
from reflux.sdk import Model, node, serve
from tests.unit.sdk.registry import Registry, registry
from tests.unit.sdk.served import Caller


class Input(Model):
    seconds: float = 0


class Output(Model):
    ok: bool = True


def version(name="test.one"):
    @node(name, "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=5))
    async def function(given: Input) -> Output:
        """Waits."""
        await asyncio.sleep(given.seconds)
        return Output()

    return function


@asynccontextmanager
async def serving(address, *names, ready=None, **others):
    """`serve` in a task that the caller may cancel."""
    ready = ready or asyncio.Event()
    settings = Settings(registry_address=address, **others)
    task = asyncio.ensure_future(serve([version(name) for name in names], settings, ready=ready))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def told(servicer):
    """The address in the one registration."""
    [request] = servicer.known.values()
    return request.address


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_every_version_is_registered_on_a_port_of_its_own_and_renewed():
    """`ready` means that all can be called at what the registry was told."""
    servicer, ready = Registry(), asyncio.Event()
    async with registry(servicer) as address, serving(address, "test.one", "test.two", ready=ready):
        async with asyncio.timeout(10):
            await ready.wait()
        assert {each.description.node for each in servicer.known.values()} == {"test.one", "test.two"}
        assert servicer.address("test.one") != servicer.address("test.two")
        async with rpc.channel(servicer.address("test.two")) as channel:
            assert (await Caller(channel)({})).output == {"ok": True}
        await until(lambda: servicer.heard.count("renew") >= 4)
        assert servicer.heard.count("register") == 2


async def test_who_binds_one_address_registers_it():
    """A replica with an address of its own is called there, wherever its connections come from."""
    servicer = Registry()
    async with registry(servicer) as address, serving(address, "test.one", bind="127.0.0.5"):
        await until(lambda: servicer.known)
        assert told(servicer).startswith("127.0.0.5:")
        async with rpc.channel(told(servicer)) as channel:
            assert (await Caller(channel)({})).output == {"ok": True}


@pytest.mark.parametrize("bind", ["0.0.0.0", "127.0.0.5"])
async def test_what_is_advertised_is_registered_whatever_is_bound(bind):
    """A machine's own view may be wrong."""
    servicer = Registry()
    others = {"bind": bind, "advertise": Address("10.9.8.7", 0)}
    async with registry(servicer) as address, serving(address, "test.one", **others):
        await until(lambda: servicer.known)
        assert told(servicer).startswith("10.9.8.7:")


async def test_who_binds_all_addresses_leaves_it_to_the_registry():
    """The host is left out: the registry takes the one that the connection comes from."""
    servicer = Registry()
    async with registry(servicer) as address, serving(address, "test.one", bind="0.0.0.0"):
        await until(lambda: servicer.known)
        assert told(servicer).startswith(":")


async def test_a_forgotten_endpoint_registers_again():
    """After the lease ran out, say in a long pause, the version comes back by itself."""
    servicer = Registry()
    async with registry(servicer) as address, serving(address, "test.one"):
        await until(lambda: servicer.known)
        servicer.known.clear()
        await until(lambda: servicer.known)


async def test_a_registry_that_comes_late_or_goes_away_stops_nothing():
    """The node serves on, asks again, and registers with the registry that returns, on the same address."""
    async with registry(Registry()) as free:
        pass
    ready = asyncio.Event()
    async with serving(free, "test.one", ready=ready):
        await asyncio.sleep(0.2)
        assert not ready.is_set()
        first, second = Registry(), Registry()
        async with registry(first, free):
            await until(ready.is_set)
            address = first.address()
        async with rpc.channel(address) as channel:
            assert (await Caller(channel)({})).output == {"ok": True}
        async with registry(second, free):
            await until(lambda: second.known)
            assert second.address() == address


async def test_a_refused_description_stops_only_its_own_version():
    """An operator must act; the others are served, and the process is ready."""
    servicer, ready = Registry(), asyncio.Event()
    servicer.refuse.add("test.one")
    async with registry(servicer) as address, serving(address, "test.one", "test.two", ready=ready):
        await until(ready.is_set)
        assert [each.description.node for each in servicer.known.values()] == ["test.two"]


async def test_a_stopping_version_leaves_the_mesh_first_and_finishes_its_calls(monkeypatch):
    """NOT_SERVING and RemoveEndpoint; calls served on for a moment, those in flight answered; the end."""
    monkeypatch.setattr("reflux.sdk.serving.LINGER_SECONDS", 2.0)
    servicer = Registry()
    async with registry(servicer) as address, serving(address, "test.one") as task:
        await until(lambda: servicer.known)
        async with rpc.channel(servicer.address()) as channel, asyncio.timeout(20):
            call = Caller(channel)
            running = asyncio.ensure_future(call({"seconds": 3}))
            await call({})
            task.cancel()
            await until(lambda: "remove" in servicer.heard)
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="reflux.api.node.v1.NodeService"), timeout=5
            )
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await call({})).output == {"ok": True}
            assert (await running).output == {"ok": True}
            await asyncio.wait([task])
            assert servicer.known == {}
            assert (await call({}, timeout=2)).code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("setting", [{"node_port": 4999}, {"advertise": Address("10.0.0.1", 4999)}])
async def test_one_port_for_several_versions_is_refused(setting):
    """The mistake is named at start, not seen as a taken port of one of them."""
    with pytest.raises(ValueError, match="one node version"):
        await serve([version("test.one"), version("test.two")], Settings(**setting))
