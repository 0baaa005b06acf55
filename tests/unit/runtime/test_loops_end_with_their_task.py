"""A loop that never ends by itself ends with its task, also when a library has lost the cancel."""

import asyncio
from contextlib import suppress

import pytest

from reflux.runtime.tasks import forever, heed_cancel


async def deaf() -> None:
    """Waits as psycopg does with Python 3.11: a cancel that comes with the answer is lost."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)


async def test_a_lost_cancel_ends_the_loop_at_its_next_turn():
    """And not before: the turn is finished."""
    turns = []

    async def loop() -> None:
        for _ in forever():
            await deaf()
            turns.append("done")

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turns == ["done"]


async def test_a_time_that_is_over_is_no_cancel():
    """`asyncio.timeout` cancels too, and takes it back."""
    for turn, _ in enumerate(forever()):
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        heed_cancel()
        if turn == 2:
            return
