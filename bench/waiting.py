"""Waiting runs in bulk: copies of one that really waits, in the tables only, as its orchestrator wrote it.

What tells runs apart is their id, their shard and their time: the events in a journal name none of these. So
a copy is a row and a journal with another id, and whoever owns its shard cannot tell it from the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.orchestrator.store import arrays
from reflux.runtime.ids import uuid7

if TYPE_CHECKING:
    from datetime import datetime

    from reflux.runtime.postgres import Connection

_ROWS: Final = """
INSERT INTO runs (id, shard, flow_id, flow_name, flow_version, state, actor, created_at, wake_at)
SELECT copy.id, copy.number %% (SELECT count(*) FROM shards),
       flow_id, flow_name, flow_version, state, actor, created_at, coalesce(%(wake)s, wake_at)
  FROM unnest(%(ids)b) WITH ORDINALITY AS copy (id, number), runs
 WHERE runs.id = %(original)s::uuid
"""
_JOURNALS: Final = """
INSERT INTO journal (run_id, seq, recorded_at, payload)
SELECT copy.id, seq, recorded_at, payload
  FROM unnest(%(ids)b) AS copy (id), journal
 WHERE journal.run_id = %(original)s::uuid
"""
_AT_ONCE: Final = 10_000


async def copy_run(
    connection: Connection, original: str, count: int, *, now: datetime, wake: datetime | None = None
) -> list[str]:
    """Makes `count` copies of a run that waits, spread over all shards, and answers their ids.

    Args:
        connection: a session of the orchestrator's schema.
        original: id of the run; it must wait in the tables.
        count: of copies.
        now: the time in their ids.
        wake: when their rows are due; by default when that of the original is.
    """
    made: list[str] = []
    cursor = connection.cursor()
    arrays.register(cursor)
    while len(made) < count:
        ids = [uuid7(now) for _ in range(min(_AT_ONCE, count - len(made)))]
        parameters = {"ids": arrays.uuids(ids), "original": original, "wake": wake}
        async with connection.transaction():
            await cursor.execute(_ROWS, parameters)
            await cursor.execute(_JOURNALS, parameters)
        made += ids
    return made
