"""Runs lie in partitions by time, which come and go while everybody works and whoever is killed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from reflux.core.event import RunPhase
from reflux.core.names import RunId
from reflux.orchestrator.store import inbox, partitions, runs
from reflux.orchestrator.store.journal import RunUpdate, ShardLease, Submission, Writer
from reflux.orchestrator.store.partitions import Outcome, Span
from reflux.orchestrator.store.start import Starter
from reflux.orchestrator.upkeep import Terms, Upkeep
from reflux.runtime.ids import first_id, uuid7
from tests.store.orchestrator.support import Desk, request, running, until

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = timedelta(days=1)
WEEKS = Terms(period=7 * DAY, retention=None)
MONTH = Terms(period=7 * DAY, retention=30 * DAY)


async def _spans(desk: Desk) -> tuple[Span, ...]:
    return (await partitions.layout(desk.pool)).spans


async def _now(desk: Desk) -> datetime:
    return (await partitions.layout(desk.pool)).now


async def _old_span(desk: Desk, days: int = 60) -> Span:
    """A week long ago that has a partition."""
    found = await partitions.layout(desk.pool)
    [span, *_] = partitions.wanted([], found.now - days * DAY, 7 * DAY)
    assert await partitions.make(desk.pool, span, found) is Outcome.MADE
    return span


async def _run_of(desk: Desk, lease: ShardLease, time: datetime) -> RunId:
    [run_id] = await desk.start(lease, run_id=RunId(uuid7(time)), created_at=time)
    return run_id


async def _end(desk: Desk, lease: ShardLease, run_id: RunId, time: datetime) -> None:
    update = RunUpdate(RunPhase.SUCCEEDED, finished_at=time)
    [recorded] = await desk.write(Submission(lease, run_id, 2, [b"end"], update))
    assert not isinstance(recorded, Exception), recorded


async def _table_of(desk: Desk, run_id: RunId) -> set[str]:
    """Where the row and the events of a run are."""
    found = await desk.rows(
        "SELECT tableoid::regclass::text FROM runs WHERE id = %s"
        " UNION SELECT tableoid::regclass::text FROM journal WHERE run_id = %s",
        run_id,
        run_id,
    )
    return {table for (table,) in found}


def _tables(span: Span) -> set[str]:
    return {f"runs_{span.name}", f"journal_{span.name}"}


DEFAULT = {"runs_default", "journal_default"}


async def test_partitions_are_made_ahead_and_once(desk: Desk) -> None:
    """The present week and two more, of both tables; a second pass finds nothing to do."""
    upkeep = Upkeep(desk.pool, WEEKS)
    assert await upkeep.once()
    spans = await _spans(desk)
    now = await _now(desk)
    assert len(spans) == 3
    assert spans[0].first <= now < spans[0].end
    assert await upkeep.once()
    assert await _spans(desk) == spans
    journals = await desk.rows(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'journal'::regclass"
    )
    assert {name for (name,) in journals} == {"journal_default", *(f"journal_{span.name}" for span in spans)}


async def test_a_run_is_where_its_id_belongs_to_the_very_boundary(desk: Desk) -> None:
    """The first and the last id of a span are in it, those beside are not."""
    [lease, *_] = await desk.leases()
    await Upkeep(desk.pool, WEEKS).once()
    before, span, _ = await _spans(desk)
    last = "ffff-7fff-bfff-ffffffffffff"
    for run_id, tables in (
        (first_id(span.first), _tables(span)),
        (first_id(span.end - timedelta(milliseconds=1))[:14] + last[5:], _tables(span)),
        (first_id(span.first - timedelta(milliseconds=1))[:14] + last[5:], _tables(before)),
        (first_id(before.first - timedelta(milliseconds=1)), DEFAULT),
    ):
        await desk.start(lease, run_id=RunId(run_id))
        assert await _table_of(desk, RunId(run_id)) == tables, run_id


async def test_what_default_holds_of_a_span_moves_into_it(desk: Desk) -> None:
    """Runs that began before the first pass go on where they are found."""
    [lease, *_] = await desk.leases()
    now = await _now(desk)
    present = await _run_of(desk, lease, now)
    ahead = await _run_of(desk, lease, now + 9 * DAY)
    past = await _run_of(desk, lease, now - 9 * DAY)
    assert await Upkeep(desk.pool, WEEKS).once()
    first, second, third = await _spans(desk)
    assert await _table_of(desk, present) == _tables(first)
    assert await _table_of(desk, ahead) in (_tables(second), _tables(third))
    assert await _table_of(desk, past) == DEFAULT
    for run_id in (present, ahead, past):
        await _end(desk, lease, run_id, now)
        assert await desk.seqs(run_id) == [1, 2]


async def test_a_span_of_which_default_holds_much_is_left_to_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is stopped for long: what is there stays there, and the next spans have partitions."""
    monkeypatch.setattr(partitions, "MOST_MOVED", 3)
    [lease, *_] = await desk.leases()
    now = await _now(desk)
    begun = await desk.start(lease, 4)
    assert await Upkeep(desk.pool, WEEKS).once()
    spans = await _spans(desk)
    assert len(spans) == 2
    assert spans[0].first > now
    for run_id in begun:
        assert await _table_of(desk, run_id) == DEFAULT
    assert await _table_of(desk, await _run_of(desk, lease, now)) == DEFAULT


async def test_several_at_once_make_each_partition_once(desk: Desk) -> None:
    """Ten passes at the same moment, and nobody fails."""
    await asyncio.gather(*(Upkeep(desk.pool, WEEKS).once() for _ in range(10)))
    assert await Upkeep(desk.pool, WEEKS).once()
    assert len(await _spans(desk)) == 3


async def test_an_old_partition_goes_with_its_runs_and_nothing_else_does(desk: Desk) -> None:
    """What has not ended, or only lately, stays with its whole journal, and goes on as before."""
    [lease, *_] = await desk.leases()
    span, now = await _old_span(desk), await _now(desk)
    time = span.first + DAY
    gone, lately, going = [await _run_of(desk, lease, time) for _ in range(3)]
    old_but_elsewhere = await _run_of(desk, lease, time - 7 * DAY)
    new = await _run_of(desk, lease, now)
    await _end(desk, lease, gone, now - 31 * DAY)
    await _end(desk, lease, lately, now - 29 * DAY)
    assert await Upkeep(desk.pool, MONTH).once()
    assert span not in await _spans(desk)
    assert await runs.get(desk.pool, gone) is None
    assert await desk.seqs(gone) == []
    assert await desk.rows(
        "SELECT to_regclass('runs_' || %s), to_regclass('journal_' || %s)", span.name, span.name
    ) == [(None, None)]
    for run_id in (lately, going, old_but_elsewhere):
        assert await _table_of(desk, run_id) == DEFAULT
    assert await desk.seqs(lately) == [1, 2]
    assert new in await _ids(desk)
    await _end(desk, lease, going, now - 31 * DAY)
    assert await desk.seqs(going) == [1, 2]
    assert await Upkeep(desk.pool, MONTH).once()
    assert await _ids(desk) == {lately, old_but_elsewhere, new}


async def _ids(desk: Desk) -> set[str]:
    return {str(run_id) for (run_id,) in await desk.rows("SELECT id FROM runs")}


async def test_a_partition_of_many_unfinished_runs_stays_and_loses_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is stopped while they would be moved; retention holds for what has ended all the same."""
    monkeypatch.setattr(partitions, "MOST_MOVED", 3)
    monkeypatch.setattr(partitions, "FORGOTTEN_AT_ONCE", 2)
    [lease, *_] = await desk.leases()
    span, now = await _old_span(desk), await _now(desk)
    begun = [await _run_of(desk, lease, span.first + DAY) for _ in range(9)]
    for run_id in begun[4:]:
        await _end(desk, lease, run_id, now - 40 * DAY)
    assert await Upkeep(desk.pool, MONTH).once()
    assert span in await _spans(desk)
    assert await _ids(desk) == set(begun[:4])
    assert {run_id for (run_id,) in await desk.rows("SELECT run_id::text FROM journal")} == set(begun[:4])


async def test_without_a_retention_nothing_is_forgotten(desk: Desk) -> None:
    """The default keeps every run."""
    [lease, *_] = await desk.leases()
    span = await _old_span(desk)
    run_id = await _run_of(desk, lease, span.first + DAY)
    await _end(desk, lease, run_id, span.first + 2 * DAY)
    assert await Upkeep(desk.pool, WEEKS).once()
    assert await desk.seqs(run_id) == [1, 2]


async def test_who_reads_for_long_puts_upkeep_off_and_nobody_else(desk: Desk) -> None:
    """A transaction that holds a table open: both acts are answered BUSY, and others go on writing."""
    [lease, *_] = await desk.leases()
    span, now = await _old_span(desk), await _now(desk)
    async with desk.session() as reader:
        await reader.execute("BEGIN")
        await reader.execute("SELECT count(*) FROM runs")
        assert await partitions.drop(desk.pool, span, ended_before=now) == (Outcome.BUSY, 0)
        assert not await Upkeep(desk.pool, WEEKS).once()
        await desk.start(lease, 3)
        await reader.execute("ROLLBACK")
    assert await partitions.drop(desk.pool, span, ended_before=now) == (Outcome.DROPPED, 0)
    assert await Upkeep(desk.pool, WEEKS).once()


async def test_who_is_killed_in_the_middle_leaves_nothing_half_done(desk: Desk) -> None:
    """The connection goes between act and commit: everything is as before, and the next one does it."""
    [lease, *_] = await desk.leases()
    span, now = await _old_span(desk), await _now(desk)
    gone, going = [await _run_of(desk, lease, span.first + DAY) for _ in range(2)]
    await _end(desk, lease, gone, now - 40 * DAY)
    async with desk.session() as killed:
        await killed.execute("BEGIN")
        act = "SELECT outcome FROM drop_partition(%s, %s, 1000)"
        assert await (await killed.execute(act, (span.name, now))).fetchone() == ("dropped",)
    assert await _table_of(desk, gone) == await _table_of(desk, going) == _tables(span)
    assert await partitions.drop(desk.pool, span, ended_before=now) == (Outcome.DROPPED, 1)
    assert await _ids(desk) == {going}
    assert await desk.seqs(going) == [1]


async def test_a_fence_that_was_left_standing_is_taken_away_first(desk: Desk) -> None:
    """Who began to make a partition of much and was killed keeps nobody from that time."""
    [lease, *_] = await desk.leases()
    time = await _now(desk) + 40 * DAY
    await desk.act("SELECT fence_default(%s, %s)", first_id(time - DAY), first_id(time + DAY))
    assert (await partitions.layout(desk.pool)).fenced
    assert await Upkeep(desk.pool, WEEKS).once()
    assert not (await partitions.layout(desk.pool)).fenced
    assert await _table_of(desk, await _run_of(desk, lease, time)) == DEFAULT


@pytest.mark.parametrize("early", [False, True])
async def test_a_large_default_is_read_while_others_write(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, early: bool
) -> None:
    """It is fenced first; a run that is there too early moves all the same. The present is left alone."""
    monkeypatch.setattr(partitions, "MOST_READ", 0)
    [lease, *_] = await desk.leases()
    now = await _now(desk)
    held = await _run_of(desk, lease, now)
    ahead = await _run_of(desk, lease, now + 9 * DAY) if early else None
    assert await Upkeep(desk.pool, WEEKS).once()
    second, third = await _spans(desk)
    assert second.first > now
    assert not (await partitions.layout(desk.pool)).fenced
    assert await _table_of(desk, held) == DEFAULT
    if ahead is not None:
        assert await _table_of(desk, ahead) in (_tables(second), _tables(third))


async def test_runs_are_begun_and_written_while_partitions_come_and_go(desk: Desk) -> None:
    """Nothing is refused or lost, no journal has a gap; what is under way in an old partition goes on."""
    leases = await desk.leases()
    now = await _now(desk)
    starter, writer = Starter(desk.dsn), Writer(desk.dsn)
    begun: list[tuple[ShardLease, RunId]] = []
    written: dict[RunId, int] = {}
    outcomes: list[Outcome] = []
    over = asyncio.Event()

    async def work(number: int) -> None:
        lease, turn = leases[number % len(leases)], 0
        while not over.is_set():
            turn += 1
            time = now - (turn % 90) * DAY
            one = await starter.start(request(lease, run_id=RunId(uuid7(time)), created_at=time))
            begun.append((lease, one.run_id))
            for seq in range(2, 6):
                await writer.submit(Submission(lease, one.run_id, seq, [b"event"]))
                written[one.run_id] = seq

    async with running(starter, writer), asyncio.TaskGroup() as workers:
        for number in range(8):
            workers.create_task(work(number))
        try:
            for days in range(90, -7, -7):
                await until(lambda: len(begun) > 0)
                outcomes.append(await _again(desk, now - days * DAY))
        finally:
            over.set()
    assert outcomes.count(Outcome.DROPPED) > 5
    assert len(begun) == len(written) > 90
    for _, run_id in begun:
        assert await desk.seqs(run_id) == [1, 2, 3, 4, 5]
    assert await _ids(desk) == {run_id for _, run_id in begun}


async def _again(desk: Desk, time: datetime) -> Outcome:
    """Makes the partition of a time and drops it, tried until nobody is in the way; nothing in it ended."""
    found = await partitions.layout(desk.pool)
    [span, *_] = partitions.wanted([], time, 7 * DAY)
    found = replace(found, now=span.end)

    async def made() -> bool:
        return await partitions.make(desk.pool, span, found) in (Outcome.MADE, Outcome.LEFT)

    outcome = Outcome.BUSY

    async def dropped() -> bool:
        nonlocal outcome
        outcome, _ = await partitions.drop(desk.pool, span, ended_before=time)
        return outcome is not Outcome.BUSY

    await until(made)
    await until(dropped)
    return outcome


async def test_words_to_runs_that_are_forgotten_go_with_them(desk: Desk) -> None:
    """Nobody could fold them any more; those to runs that stay wait on."""
    [lease, *_] = await desk.leases()
    span, now = await _old_span(desk), await _now(desk)
    gone, going = [await _run_of(desk, lease, span.first + DAY) for _ in range(2)]
    for run_id in (gone, going):
        await inbox.put(desk.pool, run_id, "cancel")
    await _end(desk, lease, gone, now - 40 * DAY)
    assert await partitions.drop(desk.pool, span, ended_before=now - DAY) == (Outcome.DROPPED, 1)
    words: Sequence[tuple[str]] = await desk.rows("SELECT run_id::text FROM inbox")
    assert words == [(going,)]
