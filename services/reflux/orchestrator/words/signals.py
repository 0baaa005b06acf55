"""Signals that name no run: they go to whoever waits for them under their key, or are kept for a while.

Two things may happen in either order, and neither may be missed: a signal is kept, a wait begins. Each is
durable before it looks for the other (`keep` before `match`; the wait's row, in the transaction of its state,
before the worker's `look`), so one of the two always finds both. Should the process die between, the next
look of any orchestrator finds them: at most `LOOK_SECONDS` later.

Who matches is alone, under an advisory lock of one short transaction. What a run was given and does not take
(it timed out at that moment, it finished) goes back to the others in the statement that takes its word away.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psycopg

from reflux.core.errors import Exhausted, RefluxError, Unavailable
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.word import Signal, other_signal
from reflux.orchestrator.store.pool import fetch_of
from reflux.orchestrator.words import stored
from reflux.orchestrator.words.teller import Teller
from reflux.runtime import logs
from reflux.runtime.postgres import Pool, load_sql
from reflux.runtime.tasks import forever

KEEP: Final = timedelta(hours=24)
"""How long a signal waits for a wait, and its id means the same signal."""
MAX_KEPT: Final = 100
"""Signals kept under one name and key."""
LOOK_SECONDS: Final = 2.0
FORGET_AT_ONCE: Final = 1_000

_PACKAGE: Final = "reflux.orchestrator.words"
_MATCHING: Final = 7_246_011
"""The advisory lock of who matches; any number that nobody else uses."""

log = logs.get_logger("signals")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a signal."""

    runs: tuple[RunId, ...]
    """That took it."""
    keep_until: datetime | None
    """None when a run took it."""


class Signals:
    """Keeps and matches; somebody must `run` it. Every method may raise psycopg.Error."""

    def __init__(self, pool: Pool, teller: Teller) -> None:
        self._pool = pool
        self._teller = teller
        self._look = asyncio.Event()

    def look(self) -> None:
        """A wait under a key has begun, durably."""
        self._look.set()

    async def send(self, signal_id: str, signal: Signal) -> Sent:
        """Keeps a signal, gives it to whoever waits, and tells what became of it.

        Args:
            signal_id: the sender's handle.
            signal: as every run that takes it hears it, under an id of its own.

        Raises:
            AlreadyExists: this id was used for another payload within `KEEP`.
            Exhausted: `MAX_KEPT` wait under this key already.
            Unavailable: the owner of a run that it was given to has not answered; ask again.
        """
        handle = {"name": signal.name, "key": signal.key, "signal_id": signal_id}
        _, word = stored.encode(signal)
        await self._execute("keep_signal", {**handle, "word": word, "limit": MAX_KEPT, "keep": KEEP})
        kept = await fetch_of(self._pool, _PACKAGE, "find_signal", handle)
        if not kept:
            message = f"{MAX_KEPT} signals {signal.name} wait under this key already, and nobody takes them"
            raise Exhausted(Reason.SIGNALS_FULL, message)
        said = stored.decode("signal", bytes(kept[0][2]))
        if not isinstance(said, Signal) or said.payload != signal.payload:
            raise other_signal(signal_id)
        await self._match()
        given = await self._find(handle)
        if given is None:  # it has expired this very moment
            raise Unavailable(Reason.WORD_UNANSWERED, "the signal has just expired; send it anew")
        for run_id in given.runs:
            await self._settled(run_id, signal, handle)
        end = await self._find(handle)
        return end or given

    async def _settled(self, run_id: RunId, signal: Signal, handle: dict[str, str]) -> None:
        """Waits until a run has taken a signal, or has given it back."""

        async def waiting() -> bool:
            [[there]] = await fetch_of(self._pool, _PACKAGE, "find_word", {**handle, "run_id": run_id})
            return bool(there)

        try:
            await self._teller.outcome(run_id, signal, waiting)
        except Unavailable:
            raise
        except RefluxError as error:
            log.info("signal_given_back", run_id=run_id, reason=error.reason.value)

    async def run(self) -> None:
        """Matches what was missed, and forgets what has expired, until cancelled."""
        for _ in forever():
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                await self._match()
                await self._execute("forget_signals", {"limit": FORGET_AT_ONCE})
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("signals_not_matched", error=str(error))
                await asyncio.sleep(LOOK_SECONDS)

    async def _match(self) -> None:
        """Until there is nothing more to match: of each key one signal at a time."""
        for _ in range(MAX_KEPT):
            [[both]] = await fetch_of(self._pool, _PACKAGE, "any_to_match", {})
            if not both:
                return
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MATCHING,))
                cursor = await connection.execute(load_sql(_PACKAGE, "match_signals"))
                given = [RunId(str(run)) for (run,) in await cursor.fetchall()]
            for run_id in given:
                self._teller.nudge(run_id)

    async def _find(self, handle: dict[str, str]) -> Sent | None:
        for runs, expires, _ in await fetch_of(self._pool, _PACKAGE, "find_signal", handle):
            given = tuple(RunId(str(run)) for run in runs)
            return Sent(given, None if given else expires)
        return None

    async def _execute(self, name: str, parameters: dict[str, object]) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(load_sql(_PACKAGE, name), parameters)
