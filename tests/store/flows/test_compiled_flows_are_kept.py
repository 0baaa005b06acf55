"""The cache of compiled flows: what costs a read, and what is seen when."""

from __future__ import annotations

import asyncio

import pytest

from reflux.api.flow.v1 import flow_service_pb2 as pb
from reflux.core.errors import Defect, NotFound
from reflux.core.reasons import Reason
from reflux.orchestrator.flows.cache import CURRENT_SECONDS, FlowCache
from tests.store.flows.conftest import flow, refusal


class Counting:
    """The real store, counting its reads."""

    def __init__(self, store):
        self._store = store
        self.reads = []

    async def current(self, key):
        self.reads.append(("current", key))
        return await self._store.current(key)

    async def spec(self, flow_id, version):
        self.reads.append(("spec", version))
        return await self._store.spec(flow_id, version)


@pytest.fixture
def store(flows):
    """Reads are counted."""
    return Counting(flows.store)


@pytest.fixture
def time():
    """A monotonic clock that is moved by hand."""
    return [0.0]


@pytest.fixture
def cache(store, time):
    """As another orchestrator has it: changes are made past it."""
    return FlowCache(store, monotonic=lambda: time[0])


async def test_starting_many_runs_costs_one_read_of_each_kind(flows, cache, store):
    """Also when they all come at once to an empty cache."""
    made = await flows.create(flow())
    found = await asyncio.gather(*(cache.resolve("orders") for _ in range(20)))
    assert {(each.flow_id, each.name, each.version) for each in found} == {(made["id"], "orders", 1)}
    assert len({id(each.flow) for each in found}) == 1
    assert store.reads == [("current", "orders"), ("spec", 1)]


async def test_a_change_made_elsewhere_is_seen_after_a_second_at_most(flows, cache, store, time):
    """Until then a run begins with the version before; the compiled version itself is never read again."""
    await flows.create(flow())
    assert (await cache.resolve("orders")).version == 1
    await flows.replace("orders", flow(value=2))
    assert (await cache.resolve("orders")).version == 1
    time[0] += CURRENT_SECONDS
    assert (await cache.resolve("orders")).version == 2
    await cache.get((await cache.resolve("orders")).flow_id, 1)
    assert store.reads.count(("spec", 1)) == 1


async def test_a_change_made_here_is_seen_at_once(flows):
    """A client that saves and starts through one orchestrator never runs what it has just replaced."""
    await flows.create(flow())
    assert (await flows.cache.resolve("orders")).version == 1
    await flows.replace("orders", flow(value=2))
    assert (await flows.cache.resolve("orders")).version == 2
    await flows.update("orders", {"name": "purchases"})
    assert isinstance(await refusal(flows.cache.resolve("orders")), NotFound)
    assert (await flows.cache.resolve("purchases")).name == "purchases"
    await flows.call("DeleteFlow", pb.DeleteFlowRequest(flow_id="purchases"))
    assert isinstance(await refusal(flows.cache.resolve("purchases")), NotFound)


async def test_an_answer_that_a_change_has_overtaken_is_not_kept(flows, cache, store):
    """It was on its way when the change was made."""
    made = await flows.create(flow())
    read = store.current

    async def slow(key):
        answer = await read(key)
        await flows.replace("orders", flow(value=2))
        cache.forget(made["id"])
        return answer

    store.current = slow
    await cache.resolve("orders")
    store.current = read
    assert (await cache.resolve("orders")).version == 2


async def test_a_flow_that_is_not_there_is_asked_for_again(flows, cache):
    """A flow saved a moment later is found."""
    error = await refusal(cache.resolve("orders"))
    assert (type(error), error.reason) == (NotFound, Reason.FLOW_NOT_FOUND)
    made = await flows.create(flow())
    assert (await cache.resolve(made["id"])).version == (await cache.resolve("orders")).version == 1


async def test_a_version_that_is_not_there_is_not_found(flows, cache):
    """The journal of a run names its version; it must exist."""
    made = await flows.create(flow())
    error = await refusal(cache.get(made["id"], 7))
    assert (type(error), error.reason) == (NotFound, Reason.FLOW_VERSION_NOT_FOUND)
    assert error.message == f"flow {made['name']} has no version 7"


async def test_room_is_bounded_and_the_least_recently_used_goes_first(flows, store):
    """Bounded by the size of the specs, which is what the memory follows."""
    ids = [(await flows.create(flow(name, value="x" * 1000)))["id"] for name in ("a", "b", "c")]
    cache = FlowCache(store, max_spec_bytes=2500)
    for flow_id in (ids[0], ids[1], ids[0], ids[2], ids[0]):
        await cache.get(flow_id, 1)
    assert len(store.reads) == 3
    await cache.get(ids[1], 1)
    assert len(store.reads) == 4


async def test_a_large_flow_is_compiled_beside_the_loop(flows, cache):
    """The runs of this process go on meanwhile."""
    steps = [{"id": f"s{n}", "node": "x", "with": {"v": ["{{ input.x }}"] * 9}} for n in range(900)]
    made = await flows.create({"name": "large", "spec": {"steps": steps}})
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await cache.get(made["id"], 1)
    ticking.cancel()
    assert ticks > 20


async def test_what_cannot_be_compiled_any_more_is_a_defect(flows, cache):
    """It was right when it was saved, so nobody but us can mend it."""
    made = await flows.create(flow())
    async with flows.pool.connection() as connection:
        await connection.execute("UPDATE flow_versions SET spec = '{}'")
    error = await refusal(cache.get(made["id"], 1))
    assert isinstance(error, Defect)
    assert "/spec" in error.message
