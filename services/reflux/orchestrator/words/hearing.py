"""How the owner of a run hears what was said to it: one word after the other, each walked before the next.

A word that is refused leaves the inbox without an event; its sender asks the same function and learns why. A
word that cannot be read, or at which `hear` itself fails, is a defect of ours and goes the same way: it must
neither stay and come back every second, nor take its run down.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from reflux.core.errors import RefluxError
from reflux.core.word import hear
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.children import FINISHED, heard
from reflux.orchestrator.store.journal import ShardLease
from reflux.orchestrator.store.wakeups import Word as Row
from reflux.orchestrator.words.stored import decode
from reflux.orchestrator.worker import Worker
from reflux.runtime import logs
from reflux.runtime.postgres import Pool, load_sql

if TYPE_CHECKING:
    from reflux.core import event as ev

log = logs.get_logger("words")


def hear_all(worker: Worker, run: ActiveRun, rows: Iterable[Row], now: Callable[[], datetime]) -> list[Row]:
    """Folds words into a run that is in memory, in order.

    Returns:
        Signals under a key that the run does not take: they belong to others, and are still in the inbox.
    """
    refused: list[Row] = []
    events: Sequence[ev.Event]
    for row in rows:
        try:
            if row.kind == FINISHED:
                events = heard(run.state, [row], now())
            else:
                events = hear(run.state, decode(row.kind, row.payload), now())
        except RefluxError as error:
            log.info("word_refused", run_id=run.id, kind=row.kind, reason=error.reason.value)
            if row.signal is not None:
                refused.append(row)
                continue
            events = ()
        except Exception:
            log.exception("word_unheard", run_id=run.id, kind=row.kind, word=row.id)
            events = ()
        worker.walk(run, events, [row.id])
    return refused


async def give_back(pool: Pool, lease: ShardLease, refused: Iterable[Row]) -> None:
    """Lets others have the signals that a run does not take; only while its shard is ours.

    Raises:
        psycopg.Error: the database is away; the words stay in the inbox, and are heard again.
    """
    for row in refused:
        place = {"shard": lease.shard, "token": lease.token, "run_id": row.run_id, "word": row.id}
        async with pool.connection() as connection:
            await connection.execute(load_sql("reflux.orchestrator.words", "give_back"), place)
