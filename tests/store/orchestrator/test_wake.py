"""Notices through Redis/Valkey: quick when it is there, harmless when it is not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import redis.asyncio

from reflux.cli.stack.ports import free_ports
from reflux.core.names import RunId
from reflux.orchestrator.store import wake as wake_module
from reflux.orchestrator.store.wake import Channel, Wake
from tests.store.orchestrator.support import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

RUN, OTHER = RunId("01900000-0000-7000-8000-000000000001"), RunId("01900000-0000-7000-8000-000000000002")


@asynccontextmanager
async def _wakes(*urls: str) -> AsyncIterator[list[Wake]]:
    wakes = [Wake(url) for url in urls]
    tasks = [asyncio.ensure_future(wake.run()) for wake in wakes]
    try:
        yield wakes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _hearing(url: str, count: int) -> None:
    """Wait until so many listen to both channels."""
    async with redis.asyncio.Redis.from_url(url) as client:

        async def listen() -> bool:
            heard = await client.pubsub_numsub(*Channel)
            return all(number == count for _, number in heard)

        await until(listen)


async def test_a_notice_reaches_every_orchestrator(valkey_url: str) -> None:
    """Of words and of grown journals; the teller hears its own too."""
    async with _wakes(valkey_url, valkey_url) as [one, two]:
        await _hearing(valkey_url, 2)
        with one.listen_inbox() as own, two.listen_inbox() as others, two.listen_runs() as marks:
            one.tell_inbox([RUN, OTHER])
            one.tell_runs({RUN: 7})
            async with asyncio.timeout(10):
                assert await anext(own) == [RUN, OTHER]
                assert await anext(others) == [RUN, OTHER]
                assert await anext(marks) == {RUN: 7}


async def test_what_is_told_at_once_is_one_message(valkey_url: str) -> None:
    """Five hundred runs of a batch cost one publish; of a journal that grew twice the last mark counts."""
    run_ids = [RunId(f"01900000-0000-7000-8000-{number:012}") for number in range(500)]
    async with _wakes(valkey_url) as [wake]:
        await _hearing(valkey_url, 1)
        with wake.listen_runs() as marks:
            wake.tell_runs(dict.fromkeys(run_ids, 2))
            wake.tell_runs({run_ids[0]: 3})
            async with asyncio.timeout(10):
                heard = await anext(marks)
    assert len(heard) == 500
    assert heard[run_ids[0]] == 3


async def test_lost_connections_are_opened_again(valkey_url: str) -> None:
    """After Redis threw everybody out, telling and hearing go on by themselves."""
    async with _wakes(valkey_url) as [wake]:
        await _hearing(valkey_url, 1)
        async with redis.asyncio.Redis.from_url(valkey_url) as client:
            for kind in ("pubsub", "normal"):
                await client.client_kill_filter(_type=kind, skipme=True)
        with wake.listen_inbox() as words:

            async def heard() -> bool:
                wake.tell_inbox([RUN])
                try:
                    async with asyncio.timeout(0.1):
                        return await anext(words) == [RUN]
                except TimeoutError:
                    return False

            await until(heard)


async def test_without_redis_telling_neither_waits_nor_fails_nor_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything goes on at the speed of the poll; only the newest notices are kept."""
    monkeypatch.setattr(wake_module, "HELD", 100)
    async with _wakes(f"redis://127.0.0.1:{free_ports(1)[0]}/0") as [wake]:
        for number in range(1000):
            wake.tell_inbox([RunId(f"01900000-0000-7000-8000-{number:012}")])
        await asyncio.sleep(0.2)
        wake.tell_runs({RUN: 1})
        assert len(wake._words) <= 100


async def test_a_message_of_somebody_else_s_making_is_ignored(valkey_url: str) -> None:
    """Anybody can publish: what makes no sense wakes nobody and breaks nothing."""
    async with _wakes(valkey_url) as [wake]:
        await _hearing(valkey_url, 1)
        with wake.listen_inbox() as words, wake.listen_runs() as marks:
            async with redis.asyncio.Redis.from_url(valkey_url) as client:
                for message in (b"\xff", b"7", b"{", b'{"a": "b"}'):
                    await client.publish(Channel.INBOX, message)
                    await client.publish(Channel.RUNS, message)
            wake.tell_inbox([RUN])
            wake.tell_runs({RUN: 1})
            async with asyncio.timeout(10):
                assert await anext(words) == [RUN]
                assert await anext(marks) == {}
                assert await anext(marks) == {RUN: 1}


async def test_a_listener_that_does_not_keep_up_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; what was forgotten is found by the poll."""
    monkeypatch.setattr(wake_module, "QUEUE", 3)
    notices: wake_module.Notices[int] = wake_module.Notices()
    for number in range(5):
        notices.put(number)
    assert [await anext(notices) for _ in range(3)] == [2, 3, 4]
