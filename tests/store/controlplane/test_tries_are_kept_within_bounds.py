"""What the proxies tell of tries: kept in bulk, found by call, forgotten, and never in anybody's way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflux.controlplane import tries as tries_module
from reflux.controlplane.tries import Try, TryKeeper
from reflux.runtime.postgres import open_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from reflux.runtime.postgres import Pool

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_try(call: str, number: int = 0, *, code: str = "UNAVAILABLE") -> Try:
    """The try that began so many seconds after NOW."""
    return Try(call, "n@1.0.0", "127.0.0.1:1", NOW + timedelta(seconds=number), 1_500, code, "")


@asynccontextmanager
async def keeping(pool: Pool) -> AsyncIterator[TryKeeper]:
    """A keeper that writes."""
    keeper = TryKeeper(pool)
    writing = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        writing.cancel()
        await asyncio.wait([writing])


async def found(keeper: TryKeeper, calls: list[str], count: int) -> list[Try]:
    """The tries of `calls`, once there are so many."""
    async with asyncio.timeout(10):
        while len(tries := await keeper.of(calls)) < count:
            await asyncio.sleep(0.01)
    return tries


async def test_they_are_found_by_their_call_as_they_began(database_dsn: str) -> None:
    """As they were told, those of other calls left out, whatever order they came in."""
    async with (
        open_pool(database_dsn, service="controlplane", max_size=2) as pool,
        keeping(pool) as keeper,
    ):
        keeper.take([a_try("r/a/1", 2), a_try("r/b/1"), a_try("r/a/1", 1, code="")])
        assert await found(keeper, ["r/a/1"], 2) == [a_try("r/a/1", 1, code=""), a_try("r/a/1", 2)]
        assert await keeper.of(["r/a/2"]) == []


async def test_what_is_too_much_is_lost_and_what_is_old_is_forgotten(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for room; the first ones told are those kept. After its days a try is gone."""
    monkeypatch.setattr(tries_module, "MAX_WAITING", 10)
    monkeypatch.setattr(tries_module, "BULK", 3)
    async with open_pool(database_dsn, service="controlplane", max_size=2) as pool:
        async with keeping(pool) as keeper:
            keeper.take(a_try("r/s/1", number) for number in range(15))
            assert await found(keeper, ["r/s/1"], 10) == [a_try("r/s/1", number) for number in range(10)]
            keeper.take([a_try("r/s/1", 20)])
            await found(keeper, ["r/s/1"], 11)
        async with pool.connection() as connection:
            old = "UPDATE tries SET kept_at = kept_at - interval '8 days' WHERE took_us = 1500"
            await connection.execute(old)
        async with keeping(pool) as keeper, asyncio.timeout(10):
            while await keeper.of(["r/s/1"]):
                await asyncio.sleep(0.01)


async def test_a_try_that_cannot_be_written_holds_up_no_other(database_dsn: str) -> None:
    """What the database refuses is given up; what comes after it is kept."""
    async with (
        open_pool(database_dsn, service="controlplane", max_size=2) as pool,
        keeping(pool) as keeper,
    ):
        keeper.take([Try("r/s/1", "n@1", "\0", NOW, 1, "", "")])
        await asyncio.sleep(0.1)
        keeper.take([a_try("r/s/2")])
        assert len(await found(keeper, ["r/s/2"], 1)) == 1
