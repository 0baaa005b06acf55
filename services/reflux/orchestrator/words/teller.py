"""Says a word to a run, wherever its owner is, and learns what came of it.

1. The run is read, and the word judged: what is refused by what is durable now is refused at once.
2. The word is put into the inbox, from where the run's owner folds it into the journal.
3. When the word is gone from there the journal is read. If it does not show the word, the owner has refused
   it, because something else came first, and the state says what.

What is said to a run is accepted once, by its id, however often it is asked: after `UNAVAILABLE` the same
request learns the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from reflux.core.errors import Conflict, Defect, Unavailable
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.core.state import RunState
from reflux.core.word import Cancel, Terminate, Word, check_ears, hear
from reflux.orchestrator.changes import Changes
from reflux.orchestrator.journal_reader import JournalReader
from reflux.orchestrator.store import inbox
from reflux.orchestrator.store.pool import fetch_of
from reflux.orchestrator.store.wake import Wake
from reflux.orchestrator.words import stored
from reflux.runtime.clock import Clock
from reflux.runtime.postgres import Pool

ANSWER_SECONDS: Final = 5.0
"""How long the journal may take to show a word."""

Waiting = Callable[[], Awaitable[bool]]
"""Whether the word is still in the inbox."""


class Teller:
    """Every method may also raise psycopg.Error when the database is away: the word may have been said."""

    def __init__(
        self,
        *,
        pool: Pool,
        reader: JournalReader,
        changes: Changes,
        wake: Wake,
        look: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._reader = reader
        self._changes = changes
        self._wake = wake
        self._look = look
        self._clock = clock

    async def tell(self, run_id: RunId, word: Word) -> RunState:
        """The run, once its journal shows the word.

        Raises:
            NotFound: there is no such run.
            RefluxError: what `reflux.core.word.hear` raises.
            Conflict: something else came first.
            Unavailable: its owner has not answered within `ANSWER_SECONDS`; the word is durable.
        """
        try:
            judged = await self._reader.state(run_id)
            hear(judged, word, self._clock.now())
            if _heard(judged, word):
                return judged
            check_ears(judged, word)
        except Defect:
            if not isinstance(word, Cancel | Terminate):  # a run that cannot be folded can be ended
                raise
        with self._changes.watch(run_id) as news:
            receipt = await inbox.put(self._pool, run_id, *stored.encode(word))
            self.nudge(run_id)

            async def waiting() -> bool:
                if receipt.word is None:
                    return False
                place = {"shard": receipt.shard, "run_id": run_id, "word": receipt.word}
                [[there]] = await fetch_of(self._pool, "reflux.orchestrator.words", "is_waiting", place)
                return bool(there)

            return await self._outcome(run_id, word, waiting, news)

    async def outcome(self, run_id: RunId, word: Word, waiting: Waiting) -> RunState:
        """What became of a word that somebody has put into the run's inbox; raises as `tell` does."""
        with self._changes.watch(run_id) as news:
            self.nudge(run_id)
            return await self._outcome(run_id, word, waiting, news)

    def nudge(self, run_id: RunId) -> None:
        """Something was put into the run's inbox: its owner looks at once."""
        self._wake.tell_inbox([run_id])
        self._look()

    async def _outcome(
        self, run_id: RunId, word: Word, waiting: Waiting, news: Callable[[float], Awaitable[None]]
    ) -> RunState:
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        while True:
            # As long as it is there the journal shows nothing of it, and may be long.
            if not await waiting():
                state = await self._reader.state(run_id)
                hear(state, word, self._clock.now())
                if _heard(state, word):
                    return state
                message = "something else came first, and the run has gone on since; look at it, ask again"
                raise Conflict(Reason.WORD_UNANSWERED, message, metadata={"run_id": run_id})
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                message = "it is kept for the run, whose owner has not answered; ask again with the same id"
                raise Unavailable(Reason.WORD_UNANSWERED, message, metadata={"id": word.id})
            await news(left)


def _heard(state: RunState, word: Word) -> bool:
    if isinstance(word, Cancel):
        return state.canceled or state.finished is not None
    return word.id in state.heard
