"""Several services in one process: ready together, drained together, none ends unnoticed."""

from __future__ import annotations

import asyncio

import pytest

from reflux.cli.serve import UnknownServiceError, find, together
from reflux.runtime.settings import Settings


class Service:
    """A service that can be made ready or ended from outside, and remembers that it drained."""

    def __init__(self) -> None:
        self.make_ready = asyncio.Event()
        self.end = asyncio.Event()
        self.drained = False

    async def __call__(self, settings: Settings, *, ready: asyncio.Event | None = None) -> None:
        try:
            await self.make_ready.wait()
            assert ready is not None
            ready.set()
            await self.end.wait()
        except asyncio.CancelledError:
            self.drained = True  # and returns, as the contract of a service allows


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_ready_means_that_all_are_ready() -> None:
    """One that is still coming up holds the announcement back."""
    one, two, ready = Service(), Service(), asyncio.Event()
    task = asyncio.ensure_future(together({"one": one, "two": two}, Settings(), ready=ready))
    one.make_ready.set()
    await settled()
    assert not ready.is_set()
    two.make_ready.set()
    await asyncio.wait_for(ready.wait(), 5)
    task.cancel()
    await asyncio.wait((task,))


async def test_cancelling_drains_all() -> None:
    """Each gets its cancellation and may take its time."""
    one, two = Service(), Service()
    task = asyncio.ensure_future(together({"one": one, "two": two}, Settings()))
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert one.drained
    assert two.drained


async def test_a_service_that_ends_by_itself_ends_the_process() -> None:
    """Half a platform would look alive; the others drain and the supervisor starts all of it again."""
    one, two = Service(), Service()
    task = asyncio.ensure_future(together({"one": one, "two": two}, Settings()))
    await settled()
    one.make_ready.set()
    one.end.set()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="one ended by itself")):
        await asyncio.wait_for(task, 5)
    assert two.drained


@pytest.mark.parametrize(("name", "argument"), [("nonsense", None), ("registry", "extra"), ("cli", None)])
def test_only_known_services_are_served(name: str, argument: str | None) -> None:
    """Names are a closed list, never an import path."""
    with pytest.raises(UnknownServiceError):
        find(name, argument)
