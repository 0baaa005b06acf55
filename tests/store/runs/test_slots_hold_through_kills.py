"""Slots neither leak nor are given twice while orchestrators are killed, and every queue drains to nothing.

The judge is the node: it knows which runs have called it and when. From its first call to the end of its last
one a run surely holds a slot, whoever walked it.
"""

import asyncio
import random
from itertools import count
from time import monotonic

import psycopg
import pytest

LIMIT = 2
NAMES = ("a", "b", "c")
KEYS = ("s1", "s2", "s3")
RUNS = 60


class Judge:
    """A node that takes its time, and remembers for how long each run needed it."""

    def __init__(self):
        self.spans = {}

    async def __call__(self, given, envelope, context):
        key, run = given["shop"], envelope["x-reflux-run-id"]
        first, _ = self.spans.setdefault((key, run), (monotonic(), 0.0))
        try:
            await asyncio.sleep(random.uniform(0.01, 0.1))
        finally:
            self.spans[key, run] = (first, monotonic())
        return {}

    def most_at_once(self, key):
        """Most runs of a key that went on at one time."""
        turns = []
        for (of, _), (first, last) in self.spans.items():
            turns += [(first, 1), (last, -1)] if of == key else []
        now = most = 0
        for _, change in sorted(turns):
            now += change
            most = max(most, now)
        return most


async def begun(dsn):
    """Runs that have a slot by the tables, the most of any key; and that wait."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        cursor = await admin.execute(
            "SELECT coalesce(max(held), 0), coalesce(sum(queued), 0), coalesce(sum(held), 0) FROM ("
            "SELECT count(*) FILTER (WHERE held) AS held, count(*) FILTER (WHERE NOT held) AS queued"
            " FROM orchestrator.slots GROUP BY flow_id, key) AS one"
        )
        rows = await cursor.fetchone()
        cursor = await admin.execute(
            "SELECT count(*) FROM orchestrator.limits WHERE (held, queued) <>"
            " (SELECT count(*) FILTER (WHERE slots.held), count(*) FILTER (WHERE NOT slots.held)"
            " FROM orchestrator.slots WHERE slots.flow_id = limits.flow_id AND slots.key = limits.key)"
        )
        [wrong] = await cursor.fetchone()
    return *rows, wrong


@pytest.mark.parametrize("seed", [1])
async def test_slots_hold_while_orchestrators_are_killed(processes, mesh, database_dsn, seed):
    """Many starts over three orchestrators, of which one after the other is killed and comes back."""
    chance = random.Random(seed)
    mesh.script = judge = Judge()
    client, *_ = await asyncio.gather(*map(processes.serving, NAMES))
    await client.save(
        "shops",
        {"id": "a", "node": "work.pure", "with": {"shop": "{{ input.shop }}"}},
        {"id": "b", "node": "work.pure", "with": {"shop": "{{ input.shop }}"}},
        policies={
            "concurrency": {"key": "{{ input.shop }}", "limit": LIMIT},
            "priority": "{{ input.priority }}",
        },
    )
    numbers = count()

    async def start_some(quota):
        runs = []
        for _ in range(quota):
            number = next(numbers)
            given = {"shop": chance.choice(KEYS), "priority": chance.randrange(10)}
            runs.append(await processes.start(number, "shops", given, f"r{number}"))
            await asyncio.sleep(chance.uniform(0, 0.1))
        return runs

    async def kill_some():
        for victim in NAMES:
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            processes.kill(victim)
            most, *_, wrong = await begun(database_dsn)
            assert most <= LIMIT
            assert wrong == 0
            await processes.serving(victim)

    killing = asyncio.ensure_future(kill_some())
    started = await asyncio.gather(*(start_some(RUNS // 6) for _ in range(6)))
    runs = [run for some in started for run in some]
    await killing
    async with asyncio.timeout(120):
        for run in runs:
            await client.until(run, "SUCCEEDED", seconds=120)
        while (state := await begun(database_dsn)) != (0, 0, 0, 0):
            assert state[0] <= LIMIT
            await asyncio.sleep(0.05)

    assert len(set(runs)) == RUNS
    assert [judge.most_at_once(key) for key in KEYS] == [LIMIT] * len(KEYS)
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin:
        left = await (await admin.execute("SELECT count(*) FROM orchestrator.limits")).fetchone()
    assert left == (0,)
