"""The table `schedules`, and what the scheduler's statements do to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from datetime import datetime

    from tests.simulation.tables import Row, Tables


@dataclass(slots=True)
class ScheduleRow:
    """A row of `schedules`, but for what is said of errors."""

    flow_version: int
    shard: int
    rule: Any
    scheduled_for: datetime | None
    fire_at: datetime | None
    revision: int = 1
    paused: bool = False
    paused_at: datetime | None = None
    given_up: tuple[datetime | None, datetime | None] = (None, None)
    last_run_id: str | None = None
    error_reason: str | None = None
    fired: int = 0
    skipped: int = 0
    missed: int = 0
    failed: int = 0


@dataclass(slots=True)
class ScheduleTables:
    """`tables` are the others."""

    tables: Tables
    rows: dict[tuple[str, str], ScheduleRow] = field(default_factory=dict)
    """By flow and trigger."""

    def find_due_schedules(self, p: Any) -> list[Row]:
        now = self.tables.now()
        held = self.tables.held(p["shards"], p["tokens"])
        busy = set(zip(p["busy_flows"], p["busy_triggers"], strict=True))
        found = sorted(
            (row.fire_at, place, row)
            for place, row in self.rows.items()
            if not row.paused
            and place not in busy
            and row.shard in held
            and row.fire_at is not None
            and row.fire_at <= now + p["ahead"]
        )
        return [
            (
                *(*place, row.flow_version, row.shard, row.revision, row.rule, row.scheduled_for, fire_at),
                *(now, *row.given_up),
            )
            for fire_at, place, row in found[: p["limit"]]
        ]

    def settle_schedule(self, p: Any) -> list[Row]:
        row = self.rows.get((p["flow_id"], p["trigger_id"]))
        if row is None or row.shard not in self.tables.held([p["shard"]], [p["token"]]):
            return []
        known = p["was"] is not None and (row.shard, row.revision, row.scheduled_for) == (
            p["shard"],
            p["revision"],
            p["was"],
        )
        if not known:
            return []
        row.scheduled_for, row.fire_at = p["scheduled_for"], p["fire_at"]
        row.last_run_id = p["last_run_id"] or row.last_run_id
        if not p["keep_error"]:
            row.error_reason = p["error_reason"]
        for what in ("fired", "skipped", "missed", "failed"):
            setattr(row, what, getattr(row, what) + p[what])
        return [(True,)]

    def pass_over(self, p: Any) -> list[Row]:
        handles = self.tables.start_keys
        if not self.tables.held([p["shard"]], [p["token"]]):
            return []
        passed = dict(zip(p["keys"], p["digests"], strict=True))
        fresh = [key for key in passed if (p["scope"], key) not in handles]
        for key in fresh:
            handles[p["scope"], key] = (passed[key], p["nobody"], self.tables.now() + timedelta(days=7))
        return [(key,) for key in fresh]

    def pause_schedule(self, p: Any) -> list[Row]:
        row = self.rows.get((p["flow_id"], p["trigger_id"]))
        if row is None or row.paused:
            return []
        row.paused, row.paused_at = True, self.tables.now()
        return [(True,)]

    def _paused(self, p: Any) -> ScheduleRow | None:
        row = self.rows.get((p["flow_id"], p["trigger_id"]))
        return row if row is not None and row.paused and orjson.loads(p["rule"]) == row.rule else None

    def lock_paused_schedule(self, p: Any) -> list[Row]:
        row = self._paused(p)
        return [] if row is None else [(row.scheduled_for, row.paused_at, *row.given_up, self.tables.now())]

    def resume_schedule(self, p: Any) -> list[Row]:
        row = self._paused(p)
        if row is None:
            return []
        row.paused, row.revision, row.missed = False, row.revision + 1, row.missed + p["missed"]
        row.scheduled_for, row.fire_at = p["scheduled_for"], p["fire_at"]
        row.given_up = p["given_up_from"], p["given_up_until"]
        return [(True,)]

    def unfinished_runs(self, p: Any) -> list[Row]:
        if not self.tables.held([p["shard"]], [p["token"]]):
            return []
        found = sorted(
            run_id
            for run_id, run in self.tables.runs.items()
            if run.flow_id == p["flow_id"]
            and run.actor == p["actor"]
            and run.actor.startswith("trigger:")
            and run.finished_at is None
        )
        return [(run_id,) for run_id in found[: p["limit"]]]
