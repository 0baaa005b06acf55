"""A node process counts its calls by what became of them."""

import asyncio
from datetime import timedelta

import grpc
import pytest

from reflux.core.effect import EffectClass
from reflux.sdk import Model, NodeFault, metrics, node
from tests.unit.sdk.served import served


class Input(Model):
    fails: bool = False
    waits: bool = False


class Output(Model):
    pass


class Gate:
    """Where a call waits. Made anew for each test: an event belongs to one loop."""

    entered: asyncio.Event
    leave: asyncio.Event


@pytest.fixture(autouse=True)
def _gate() -> None:
    Gate.entered, Gate.leave = asyncio.Event(), asyncio.Event()


@node(
    "test.counted", "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=20), max_concurrency=1
)
async def counted(given: Input) -> Output:
    """Fails or waits when told to."""
    if given.fails:
        raise NodeFault(grpc.StatusCode.UNAVAILABLE, "ill")
    if given.waits:
        Gate.entered.set()
        await Gate.leave.wait()
    return Output()


def calls(code: str) -> int:
    return metrics.CALL_DURATION.at("test.counted", "1.0.0", code).count


async def test_calls_are_counted_by_their_code():
    """Once each: done, failed, refused for its input; with the time they took."""
    before = {code: calls(code) for code in ("OK", "UNAVAILABLE", "INVALID_ARGUMENT")}
    async with served(counted) as call:
        await call({})
        await call({})
        await call({"fails": True})
        await call({"unknown": 1})
    risen = {code: calls(code) - count for code, count in before.items()}
    assert risen == {"OK": 2, "UNAVAILABLE": 1, "INVALID_ARGUMENT": 1}
    assert metrics.CALL_DURATION.at("test.counted", "1.0.0", "OK").total > 0


async def test_a_full_version_shows_what_it_holds_and_what_it_refuses():
    """In flight while it works; NODE_FULL counted for the call that found no room; then nothing any more."""
    full = metrics.REFUSALS.at("test.counted", "1.0.0", "NODE_FULL")
    before = full.value
    version = ("test.counted", "1.0.0")
    async with served(counted) as call:
        assert metrics.CALLS_IN_FLIGHT.series()[version] == 0
        working = asyncio.ensure_future(call({"waits": True}))
        await Gate.entered.wait()
        assert metrics.CALLS_IN_FLIGHT.series()[version] == 1
        assert (await call({})).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert full.value == before + 1
        Gate.leave.set()
        assert (await working).code is grpc.StatusCode.OK
        async with asyncio.timeout(20):
            while metrics.CALLS_IN_FLIGHT.series()[version]:
                await asyncio.sleep(0.01)
    assert version not in metrics.CALLS_IN_FLIGHT.series()


async def test_a_caller_that_leaves_is_counted_as_that():
    """As CANCELLED: neither done nor failed."""
    before = calls("CANCELLED")
    async with served(counted) as call:
        impatient = asyncio.ensure_future(call({"waits": True}))
        await Gate.entered.wait()
        impatient.cancel()
        async with asyncio.timeout(20):
            while calls("CANCELLED") == before:
                await asyncio.sleep(0.01)
    assert calls("CANCELLED") == before + 1
