"""All rows of a store, real or simulated, as far as they can be compared: random tokens and times apart."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from reflux.runtime.postgres import Pool
    from tests.simulation.tables import Tables


def plain(answer: Any) -> Any:
    """An answer without times and types of its own; of rows, which and not in which order."""
    if isinstance(answer, str):
        return answer
    return sorted(repr([_value(value) for value in row]) for row in answer)


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return "a time"
    if isinstance(value, list):
        return sorted(map(_value, value), key=repr)
    return str(value) if isinstance(value, UUID) else value


async def contents_in(pool: Pool) -> dict[str, Any]:
    """Of the tables of the database, by name."""
    queries = {
        "shards": "SELECT id, owner, fencing_token, release FROM shards",
        "members": "SELECT id, address, state FROM members",
        "runs": "SELECT id, shard, state, recoveries, wake_at IS NULL, finished_at IS NULL, error_code,"
        " error_fingerprint, priority, limited FROM runs",
        "journal": "SELECT run_id, seq, payload FROM journal",
        "inbox": "SELECT id, shard, run_id, kind, payload, signal FROM inbox",
        "signal_waits": "SELECT run_id, step, shard, name, key, offered FROM signal_waits",
        "signals": "SELECT id, name, key, signal_id, word, run_ids FROM signals",
        "limits": "SELECT flow_id, key, slots, held, queued, version FROM limits",
        "slots": "SELECT run_id, flow_id, key, shard, priority, held, told, start_at IS NULL FROM slots",
        "rates": "SELECT flow_id, key, runs, period, version, CASE WHEN full_at > '-infinity'"
        " THEN round(extract(epoch FROM full_at - now()) / 600)::bigint END FROM rates",
        "turns": "SELECT run_id, flow_id, key, round(extract(epoch FROM start_at - now()) / 600)::bigint"
        " FROM turns",
        "schedules": "SELECT trigger_id, revision, paused, paused_at IS NULL, given_up_from IS NULL,"
        " scheduled_for IS NULL, last_run_id, error_reason,"
        " fired, skipped, missed, failed FROM schedules",
        "start_keys": "SELECT scope, key, run_id FROM start_keys",
    }
    async with pool.connection() as connection:
        return {
            table: plain(await (await connection.execute(sql)).fetchall()) for table, sql in queries.items()
        }


def _tens_of_minutes(moment: datetime, tables: Tables) -> int:
    """From now on: neither clock is far from the other."""
    return round((moment - tables.now()) / timedelta(minutes=10))


def contents_of(tables: Tables) -> dict[str, Any]:
    """Of the simulated tables, by the same names."""
    runs = tables.runs.items()
    return {
        "shards": plain(
            [(one, shard.owner, shard.token, shard.release) for one, shard in tables.shards.items()]
        ),
        "members": plain([(one, member.address, member.state) for one, member in tables.members.items()]),
        "runs": plain(
            (
                one,
                r.shard,
                r.state,
                r.recoveries,
                r.wake_at is None,
                r.finished_at is None,
                r.error[0],
                r.error[4],
                r.priority,
                r.limited,
            )
            for one, r in runs
        ),
        "journal": plain(
            (run, seq, fact.payload) for run, facts in tables.journal.items() for seq, fact in facts.items()
        ),
        "inbox": plain((one, *row[:4], row[5]) for one, row in tables.inbox.items()),
        "signal_waits": plain(
            (*wait, row.shard, row.name, row.key, row.offered) for wait, row in tables.signals.waits.items()
        ),
        "signals": plain(
            (one, row.name, row.key, row.signal_id, row.word, list(row.run_ids))
            for one, row in tables.signals.signals.items()
        ),
        **_limits_of(tables),
        "schedules": plain(
            (
                trigger,
                row.revision,
                row.paused,
                row.paused_at is None,
                row.given_up[0] is None,
                row.scheduled_for is None,
                row.last_run_id,
                row.error_reason,
                row.fired,
                row.skipped,
                row.missed,
                row.failed,
            )
            for (_, trigger), row in tables.schedules.rows.items()
        ),
        "start_keys": plain((*handle, row[1]) for handle, row in tables.start_keys.items()),
    }


def _limits_of(tables: Tables) -> dict[str, Any]:
    return {
        "limits": plain(
            (*at, row.slots, row.held, row.queued, row.version) for at, row in tables.limits.limits.items()
        ),
        "slots": plain(
            (run, row.flow_id, row.key, row.shard, row.priority, row.held, row.told, row.start_at is None)
            for run, row in tables.limits.slots.items()
        ),
        "rates": plain(
            (
                *at,
                row.runs,
                row.per // timedelta(microseconds=1),
                row.version,
                row.full_at and _tens_of_minutes(row.full_at, tables),
            )
            for at, row in tables.limits.rates.items()
        ),
        "turns": plain(
            (run, row.flow_id, row.key, _tens_of_minutes(row.start_at, tables))
            for run, row in tables.limits.turns.items()
        ),
    }
