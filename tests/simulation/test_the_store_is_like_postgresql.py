"""The simulated tables do what PostgreSQL does with the same statements: else these worlds prove nothing.

Random statements, with leases that hold and leases that do not, events that are there already, words, runs
that have ended: each is executed by both, and their answers must be the same, rows or error. Times are left
out of the comparison, because each has its own clock; what hangs on them is an hour away, to either side.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from reflux.orchestrator.store import arrays, outcomes
from reflux.orchestrator.store.pool import fetch, fetch_of
from reflux.orchestrator.triggers.schedules import NOBODY
from reflux.runtime.postgres import load_sql, open_pool
from tests.simulation.contents import contents_in, contents_of, plain
from tests.simulation.database import STATEMENTS, TRIGGERS, WORDS
from tests.simulation.schedule_tables import ScheduleRow
from tests.simulation.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.runtime.postgres import Pool

HOUR = timedelta(hours=1)
FLOW = "00000000-0000-4000-8000-000000000001"
MEMBERS = [str(UUID(int=number)) for number in range(1, 7)]
RUNS = [str(UUID(int=number)) for number in range(101, 109)]
_OFTEN = ("write_events", "start_runs", "take_shards", "put_word", "find_due", "adopt_runs")
_SHARED = {"a": ("queue", 1), "b": ("cancel_oldest", 2), "c": ("reject", 1)}
"""Keys of limits: what becomes of a run too many, and how many there may be."""
_NOTHING = {"create_shards", "leave", "give_back", "keep_signal", "forget_signals"}
"""Statements without rows."""
_PACKED: dict[str, Callable[[Any], bytes]] = {
    **dict.fromkeys(
        ("event_seqs", "flow_versions", "seqs", "priorities", "slot_limits", "claim_versions"), arrays.int4s
    ),
    **dict.fromkeys(
        ("tokens", "event_leases", "run_leases", "word_leases", "word_ids", "leases", "taken", "tell_leases",
         "wait_leases", "rate_limits", "rate_periods"), arrays.int8s
    ),
    **dict.fromkeys(("event_runs", "run_ids", "word_runs", "flow_ids", "loaded", "tell_runs", "wait_runs",
                     "claim_runs", "origins"), arrays.uuids),
    **dict.fromkeys(("event_payloads", "digests", "payloads", "tell_payloads", "queued_tails"), arrays.blobs),
    **dict.fromkeys(("run_wakes", "run_finishes", "created"), arrays.times),
    **dict.fromkeys(("run_states", "scopes", "keys", "flow_names", "actors"), arrays.texts),
    **dict.fromkeys(
        ("error_codes", "error_reasons", "error_messages", "error_steps", "error_fingerprints", "tell_kinds",
         "wait_steps", "wait_names", "wait_keys", "slot_keys", "slot_overflows", "rate_keys",
         "rate_overflows", "search_keys", "triggers", "operations"), arrays.texts
    ),
    "run_progresses": arrays.bools,
    "tests": arrays.bools,
}  # fmt: skip


def _package(name: str) -> str:
    if name in TRIGGERS:
        return "reflux.orchestrator.triggers"
    return "reflux.orchestrator.words" if name in WORDS else "reflux.orchestrator.store"


async def real(pool: Pool, name: str, parameters: dict[str, Any]) -> Any:
    """What PostgreSQL answers."""
    packed = {key: _PACKED[key](value) if key in _PACKED else value for key, value in parameters.items()}
    if name in TRIGGERS:
        async with pool.connection() as connection:
            return await (await connection.execute(load_sql(_package(name), name), parameters)).fetchall()
    if "tokens" in parameters:
        packed["shards"] = arrays.int4s(parameters["shards"])
    try:
        if name == "keep_outcomes":
            await outcomes.keep(pool, parameters["run_id"], parameters["payloads"])
            return []
        if name == "drop_outcomes":
            await outcomes.drop(pool, parameters["run_id"])
            return []
        if name in _NOTHING:
            async with pool.connection() as connection:
                await connection.execute(load_sql(_package(name), name), packed)
            return []
        if name in WORDS:
            return await fetch_of(pool, _package(name), name, packed)
        return await fetch(pool, name, packed, prepare=False)
    except psycopg.Error as error:
        return type(error).__name__


def simulated(tables: Tables, name: str, parameters: dict[str, Any]) -> Any:
    """What the simulated tables answer."""
    try:
        return tables.execute(name, parameters)
    except psycopg.Error as error:
        return type(error).__name__


def statement(rng: Random, tables: Tables) -> tuple[str, dict[str, Any]]:
    """Any statement, with parameters that mostly make sense."""
    now = datetime.now(UTC)
    leases = [
        (shard, tables.shards[shard].token - rng.choice((0, 0, 0, 1))) for shard in rng.sample(range(4), 3)
    ]
    held = {"shards": [shard for shard, _ in leases], "tokens": [token for _, token in leases]}
    member, run = rng.choice(MEMBERS), rng.choice(RUNS)
    release = rng.choice((1, 1, 1, 2))
    name = rng.choice((*STATEMENTS, *WORDS, *TRIGGERS, *_OFTEN * 4, *_OFTEN[:2] * 3))
    match name:
        case "join" | "heartbeat" | "take_shards" | "release_shards":
            return _membership(rng, tables, name, {"member": member, "release": release})
        case "adopt_runs":
            shard, token = leases[0]
            after = rng.choice((RUNS[0], str(UUID(int=0))))
            place = {"shard": shard, "token": token, "after": after}
            return name, {**place, "died": rng.random() < 0.5, "limit": 3, "most": 3}
        case "find_words":
            shard, token = leases[0]
            return name, {"shard": shard, "token": token, "run_id": run}
        case "try_run":
            shard, token = leases[0]
            return name, {"shard": shard, "token": token, "run_id": run, "most": 3}
        case "find_due":
            loaded, taken = rng.sample(RUNS, 2), [rng.randint(1, 9)]
            bounds = {"ahead": timedelta(), "limit": 99, "window": 99}
            return name, {**held, **bounds, "loaded": loaded, "taken": taken}
        case "put_word":
            return name, {"run_id": run, "kind": rng.choice(("cancel", "signal", "pause")), "payload": b"p"}
        case "read_events":
            return name, {"run_id": run, "after": rng.randint(0, 2), "limit": 2}
        case "read_journals":
            return name, {"run_ids": rng.sample(RUNS, 3), "limit": 2}
        case "last_seqs":
            return name, {"run_ids": rng.sample(RUNS, 3)}
        case "find_finished" | "find_parked":
            return name, {"runs": rng.sample(RUNS, 5)}
        case "is_waiting" | "give_back":
            word = rng.choice([*tables.inbox] or [1])
            shard, run, *_ = tables.inbox.get(word, (leases[0][0], run))
            place = {"shard": shard, "run_id": run if rng.random() < 0.8 else RUNS[0], "word": word}
            return name, {**place, "token": tables.shards[shard].token - rng.choice((0, 0, 1))}
        case "find_start_keys":
            return name, {"scopes": ["s", "s"], "keys": ["k1", "k2"]}
        case "start_runs":
            return name, {**held, **_starts(rng, tables, now)}
        case "write_events":
            return name, {**held, **_events(rng, tables, now)}
        case "find_queued" | "find_place":
            return name, {"run_id": run, "counted": 100}
        case "keep_outcomes":
            absent = [one for one in RUNS if one not in tables.runs]
            kept = {"run_id": absent[-1] if absent else run, "seqs": [2, 3], "payloads": [b"kept"] * 2}
            return name, kept
        case "drop_outcomes":
            return name, {"run_id": run}
        case (
            "keep_signal" | "find_signal" | "find_word" | "match_signals" | "any_to_match" | "forget_signals"
        ):
            return _signals(rng, tables, name, run)
        case _ if name in TRIGGERS:
            return name, _schedule(rng, tables, held, now)
        case "get_run":
            return name, {"run_id": run}
        case _:
            return name, {"member": member, "shards": 4, "release": release}


def _membership(rng: Random, tables: Tables, name: str, whose: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Of joining, staying, and of shards that come and go; `whose` has a member and its release."""
    member = {"member": whose["member"]}
    match name:
        case "join":
            # Each member once: ids are never used again.
            free = [one for one in MEMBERS if one not in tables.members]
            if not free:
                return "survey", whose
            place = {"address": f"a:{rng.randrange(3)}", "lease": rng.choice((HOUR, -HOUR))}
            return name, {**whose, **place, "member": free[0]}
        case "heartbeat":
            return name, {**member, "lease": rng.choice((HOUR, HOUR, -HOUR))}
        case "take_shards":
            return name, {**whose, "limit": rng.randint(0, 4)}
        case _:
            return name, {**member, "shards": rng.sample(range(4), 2)}


def _signals(rng: Random, tables: Tables, name: str, run: str) -> tuple[str, dict[str, Any]]:
    match name:
        case "keep_signal":
            word = {"word": b"w", "limit": 2, "keep": rng.choice((HOUR, HOUR, -HOUR))}
            return name, {**_signal(rng), **word}
        case "find_signal" | "find_word":
            return name, {**_signal(rng), "run_id": run}
        case "match_signals":  # of several that are given, nobody can say which word is the first
            return (name if len(tables.signals.pairs()) == 1 else "any_to_match"), {}
        case "any_to_match":
            return name, {}
        case _:
            return name, {"limit": 99}


def _signal(rng: Random) -> dict[str, Any]:
    return {"name": "ready", "key": rng.choice(RUNS[:4]), "signal_id": rng.choice("123")}


def _schedule(rng: Random, tables: Tables, held: dict[str, Any], now: datetime) -> dict[str, Any]:
    """What any of the scheduler's statements asks."""
    trigger = rng.choice(("t1", "t2"))
    row = tables.schedules.rows[FLOW, trigger]
    following = now + rng.choice((HOUR, -HOUR)) if rng.random() < 0.9 else None
    counts = {what: rng.randint(0, 1) for what in ("fired", "skipped", "missed", "failed")}
    busy = rng.choice(([], ["t1"], ["t1", "t2"]))
    return {
        **held,
        **counts,
        "busy_flows": [FLOW for _ in busy],
        "busy_triggers": busy,
        "ahead": HOUR / 2,
        "limit": 9,
        "flow_id": FLOW,
        "trigger_id": trigger,
        "actor": f"trigger:{trigger}",
        "revision": row.revision - rng.choice((0, 0, 0, 1)),
        "was": row.scheduled_for if rng.random() < 0.9 else now,
        "shard": row.shard,
        "token": tables.shards[row.shard].token - rng.choice((0, 0, 0, 1)),
        "scheduled_for": following,
        "fire_at": following,
        "last_scheduled_for": None,
        "last_fire_at": None,
        "last_run_id": rng.choice((None, RUNS[0])),
        "rule": rng.choice(("{}", "{}", '{"every": "1h"}')),
        "given_up_from": following and following - HOUR,
        "given_up_until": following,
        "keep_error": rng.random() < 0.5,
        "error_scheduled_for": None,
        "error_reason": rng.choice((None, "BAD")),
        "error_message": None,
        "scope": "s",
        "keys": ["k2", "k3"],
        "digests": [b"2", b"3"],
        "nobody": NOBODY,
    }


def _claims(rng: Random, fresh: list[str], tables: Tables) -> dict[str, Any]:
    """What some of the new runs ask for. A start that fails uses numbers of words up: none may be told."""
    claims: dict[str, list[Any]] = {column: [] for column in _CLAIM}
    if any(run in tables.runs for run in fresh):
        return claims
    for run in fresh:
        key, rate = rng.choice((None, "a", "a", "b", "b", "c")), rng.choice((None, None, None, "r"))
        if key is None and rate is None:
            continue
        overflow, limit = _SHARED[key] if key else (None, 1)
        paced = rng.choice(("queue", "reject")) if rate else None
        per = rng.choice((3_600, 7_200)) * 1_000_000
        row = (run, key, limit, overflow, rate, 1, per, paced, rng.choice((1, 1, 2)), b" queued")
        for column, value in zip(_CLAIM, row, strict=True):
            claims[column].append(value)
    return claims


_CLAIM = (
    "claim_runs", "slot_keys", "slot_limits", "slot_overflows", "rate_keys", "rate_limits", "rate_periods",
    "rate_overflows", "claim_versions", "queued_tails",
)  # fmt: skip
"""Of limited flows."""


def _starts(rng: Random, tables: Tables, now: datetime) -> dict[str, Any]:
    fresh = [run for run in RUNS if run not in tables.runs][: rng.randint(0, 2)]
    if rng.random() < 0.2:
        fresh = rng.sample(RUNS, 1)  # which may be there
    keys = rng.sample(["k1", "k2", "k3", None], len(fresh))
    return {
        "leases": [rng.randint(1, 3) for _ in fresh],
        "run_ids": fresh,
        "scopes": ["s"] * len(fresh),
        "keys": keys,
        "digests": [b"d"] * len(fresh),
        "flow_ids": [FLOW] * len(fresh),
        "flow_names": ["f"] * len(fresh),
        "flow_versions": [1] * len(fresh),
        "actors": [rng.choice(("me", "trigger:t1")) for _ in fresh],
        "created": [now] * len(fresh),
        "payloads": [b"created"] * len(fresh),
        "priorities": [rng.randint(0, 2) for _ in fresh],
        "search_keys": [rng.choice((None, "customer-7")) for _ in fresh],
        "triggers": [None] * len(fresh),
        "origins": [rng.choice((None, RUNS[0])) for _ in fresh],
        "operations": [None] * len(fresh),
        "tests": [False] * len(fresh),
        **_claims(rng, fresh, tables),
    }


def _events(rng: Random, tables: Tables, now: datetime) -> dict[str, Any]:
    runs = rng.sample([*tables.runs], min(2, len(tables.runs)))
    last = {run: max(tables.journal[run]) for run in runs}
    states = [rng.choice(("RUNNING", "RUNNING", "PARKED", "FAILED")) for _ in runs]
    if states == ["FAILED", "FAILED"]:  # of two that get a slot nobody can say who is told first
        states[1] = "RUNNING"
    words = rng.sample([*tables.inbox], min(2, len(tables.inbox)))
    seqs = [last[run] + rng.choice((1, 1, 1, 0)) for run in runs]
    # A statement that is refused uses numbers of words up or not, and two words get theirs in any order.
    twice = runs[:1] if rng.random() < 0.1 else []
    fine = not twice and all(last[run] < seq for run, seq in zip(runs, seqs, strict=True))
    states = states if fine else ["RUNNING" for _ in runs]  # nobody gets a slot, and is told of it
    over = [state == "FAILED" for state in states]
    frees = any(ended and tables.runs[run].limited for run, ended in zip(runs, over, strict=True))
    told = runs[:1] if fine and not frees else []
    waits = [(run, rng.choice("ab")) for run in runs]
    names = [rng.choice((None, "ready")) for _ in waits]
    return {
        "event_leases": [rng.randint(1, 3) for _ in runs + twice],
        "event_runs": runs + twice,
        "event_seqs": seqs + seqs[: len(twice)],
        "event_payloads": [b"event"] * len(runs + twice),
        "run_leases": [rng.randint(1, 3) for _ in runs],
        "run_ids": runs,
        "run_states": states,
        "run_wakes": [None if ended else now + rng.choice((HOUR, -HOUR)) for ended in over],
        "run_finishes": [now if ended else None for ended in over],
        "run_progresses": [rng.random() < 0.5 for _ in runs],
        **{key: [rng.choice((None, "QUARANTINED")) for _ in runs]
           for key in ("error_codes", "error_reasons", "error_messages", "error_steps",
                       "error_fingerprints")},
        "oldest_run": min(runs, default=RUNS[-1]),
        "newest_run": max(runs, default=RUNS[0]),
        "tell_leases": [rng.randint(1, 3) for _ in told],
        "tell_runs": [rng.choice(RUNS) for _ in told],
        "tell_kinds": ["child" for _ in told],
        "tell_payloads": [b"told" for _ in told],
        "wait_leases": [rng.randint(1, 3) for _ in waits],
        "wait_runs": [run for run, _ in waits],
        "wait_steps": [step for _, step in waits],
        "wait_names": names,
        "wait_keys": [None if name is None else run for (run, _), name in zip(waits, names, strict=True)],
        "word_leases": [rng.randint(1, 3) for _ in words],
        "word_runs": [tables.inbox[word][1] for word in words],
        "word_ids": words,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
async def test_the_same_statements_give_the_same_answers(database_dsn, seed):
    """Two hundred random statements, one after the other, on the same tables."""
    rng, tables = Random(seed), Tables(lambda: datetime.now(UTC))
    answered = set()
    async with open_pool(database_dsn, service="orchestrator", max_size=2) as pool:
        first = ("create_shards", {"shards": 4})
        await real(pool, *first)
        simulated(tables, *first)
        await _add_schedules(pool, tables)
        for number in range(400):
            name, parameters = statement(rng, tables)
            wanted, found = await real(pool, name, parameters), simulated(tables, name, parameters)
            assert plain(found) == plain(wanted), f"statement {number}, {name}: {parameters}"
            if wanted:
                answered.add(name)
        rows = await contents_in(pool)
    assert rows == contents_of(tables)
    assert len(answered) >= 20, f"too few statements answered anything: {sorted(answered)}"


async def _add_schedules(pool: Pool, tables: Tables) -> None:
    """Two, one of which is due; their flow is nobody's business here."""
    now = datetime.now(UTC)
    async with pool.connection() as connection:
        await connection.execute("ALTER TABLE schedules DROP CONSTRAINT schedules_flow_id_fkey")
        for trigger, shard, at in (("t1", 0, now - HOUR), ("t2", 1, now + HOUR)):
            await connection.execute(
                "INSERT INTO schedules (flow_id, trigger_id, flow_version, shard, rule, catchup, overlap,"
                " scheduled_for, fire_at) VALUES (%s, %s, 1, %s, '{}', 'all', 'allow', %s, %s)",
                (FLOW, trigger, shard, at, at),
            )
            tables.schedules.rows[FLOW, trigger] = ScheduleRow(1, shard, {}, at, at)
