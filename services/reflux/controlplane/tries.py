"""Tries as the proxies' access logs tell, kept for whoever asks what an attempt met on its way.

It is sight and nothing else: nobody decides by it, and no call, route or proxy ever waits for it. So it is
bounded everywhere, and what is too much is lost and counted: `MAX_WAITING` entries wait for the database,
one statement at a time takes them in bulk, and they are forgotten after `KEPT_DAYS`.

A call is named by whoever made it: `run id/step/attempt`, or its batch id when attempts shared it. An attempt
that was sent again under its number, because its orchestrator had died, has the tries of both.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.controlplane import metrics
from reflux.runtime import logs
from reflux.runtime.postgres import load_sql
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from reflux.runtime.postgres import Pool

MAX_WAITING: Final = 20_000
"""Tries that wait for the database; some 10 MB."""
BULK: Final = 2_000
"""Written in one statement."""
KEPT_DAYS: Final = 7
FORGET_SECONDS: Final = 3_600.0
RETRY_SECONDS: Final = 1.0
MAX_SHOWN: Final = 20_000
"""Tries in one answer."""

_sql = partial(load_sql, "reflux.controlplane")

log = logs.get_logger("tries")


@dataclass(frozen=True, slots=True)
class Try:
    """One try, as its proxy saw it."""

    call: str
    leaf: str
    """node@version"""
    endpoint: str
    """host:port; empty when there was no connection."""
    started_at: datetime
    """By the proxy's clock."""
    took_us: int
    code: str
    """gRPC code that it answered; empty when it did not."""
    flags: str
    """Envoy's response flags, comma-separated."""


class TryKeeper:
    """Takes tries at once, writes them when it can, and finds them again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[Try] = deque()
        self._some = asyncio.Event()

    def take(self, tries: Iterable[Try]) -> None:
        """Keep these, as far as there is room."""
        for each in tries:
            if len(self._waiting) >= MAX_WAITING:
                metrics.TRIES_LOST.at().add()
            else:
                self._waiting.append(each)
        self._some.set()

    async def run(self) -> None:
        """Write for ever; forget what is old."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forget())
            for _ in forever():
                await self._some.wait()
                self._some.clear()
                while bulk := list(islice(self._waiting, BULK)):
                    if not await self._write(bulk):
                        await asyncio.sleep(RETRY_SECONDS)
                        continue
                    for _ in bulk:
                        self._waiting.popleft()

    async def of(self, calls: Sequence[str]) -> list[Try]:
        """The tries of `calls` that are known, each call's as they began.

        Raises:
            psycopg.Error: the database is away.
        """
        async with self._pool.connection() as connection:
            values = {"calls": list(calls), "limit": MAX_SHOWN}
            rows = await (await connection.execute(_sql("tries_of"), values)).fetchall()
        return [Try(*row) for row in rows]

    async def _write(self, bulk: Sequence[Try]) -> bool:
        """Whether these need to wait no longer: they are written, or cannot be."""
        values = {
            "calls": [each.call for each in bulk],
            "leaves": [each.leaf for each in bulk],
            "endpoints": [each.endpoint for each in bulk],
            "started": [each.started_at for each in bulk],
            "took": [each.took_us for each in bulk],
            "codes": [each.code for each in bulk],
            "flags": [each.flags for each in bulk],
        }
        try:
            async with self._pool.connection() as connection:
                await connection.execute(_sql("keep_tries"), values)
        except psycopg.DataError as error:
            log.warning("tries_unreadable", count=len(bulk), error=str(error))
            metrics.TRIES_LOST.at().add(len(bulk))
        except psycopg.Error as error:
            log.warning("tries_unwritten", waiting=len(self._waiting), error=str(error))
            return False
        return True

    async def _forget(self) -> None:
        for _ in forever():
            try:
                async with self._pool.connection() as connection:
                    await connection.execute(_sql("forget_tries"), {"days": KEPT_DAYS})
            except psycopg.Error as error:
                log.warning("tries_unforgotten", error=str(error))
            await asyncio.sleep(FORGET_SECONDS)
