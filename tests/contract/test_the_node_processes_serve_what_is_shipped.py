"""All node versions in one process, or the named ones: each registers what it serves."""

import asyncio

import pytest

from reflux.nodes import __main__ as nodes
from reflux.runtime.settings import Settings
from tests.unit.sdk.registry import Registry, registry


@pytest.mark.parametrize("versions", [nodes.VERSIONS, ("http.request@2.0.0",)])
async def test_every_version_that_is_asked_for_is_registered_and_taken_back(versions):
    """Ready when the registry knows all of them; empty again after the drain."""
    servicer, ready = Registry(), asyncio.Event()
    async with registry(servicer) as address, asyncio.timeout(30):
        settings = Settings(registry_address=address)
        task = asyncio.ensure_future(nodes.serve(settings, ready=ready, versions=versions))
        await ready.wait()
        described = [request.description for request in servicer.known.values()]
        assert {f"{each.node}@{each.version}" for each in described} == set(versions)
        task.cancel()
        await asyncio.wait([task])
        assert servicer.known == {}


async def test_a_version_that_is_not_shipped_is_refused():
    """By its name, before anything is started."""
    with pytest.raises(KeyError, match="no-such@1"):
        await nodes.serve(Settings(), versions=["no-such@1"])
