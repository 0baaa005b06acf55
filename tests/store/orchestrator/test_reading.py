"""Reading runs: what recovery adopts, what lists show, and the journal in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflux.core.event import Failure, RunPhase
from reflux.core.names import FlowId, RunId
from reflux.core.reasons import Reason
from reflux.orchestrator.store import inbox, runs
from reflux.orchestrator.store.journal import RunUpdate, ShardLease, Submission
from reflux.orchestrator.store.runs import MAX_RECOVERIES
from reflux.runtime.ids import uuid7
from tests.store.orchestrator.support import FLOW, Desk

OTHER_FLOW = FlowId("00000000-0000-4000-8000-000000000002")
START = datetime(2026, 1, 1, tzinfo=UTC)

if TYPE_CHECKING:
    from collections.abc import Sequence


async def _adopted(
    desk: Desk, lease: ShardLease, *, died: bool = False, page_size: int = 2
) -> dict[RunId, int]:
    pages = [page async for page in runs.adopt(desk.pool, lease, died=died, page_size=page_size)]
    assert all(len(page) <= page_size for page in pages)
    adopted = [one for page in pages for one in page]
    assert len({one.run_id for one in adopted}) == len(adopted)
    return {one.run_id: one.recoveries for one in adopted}


async def test_recovery_adopts_what_belongs_in_memory_and_nothing_else(desk: Desk) -> None:
    """Running, canceling and due runs of that shard, in pages; not finished, parked or waiting ones."""
    [lease, other, *_] = await desk.leases()
    going, canceling, due, waiting, parked, done = await desk.start(lease, 6)
    await desk.start(other)
    now = datetime.now(UTC)
    updates = {
        canceling: RunUpdate(RunPhase.CANCELING),
        due: RunUpdate(RunPhase.RUNNING, wake_at=now - timedelta(seconds=60)),
        waiting: RunUpdate(RunPhase.RUNNING, wake_at=now + timedelta(hours=1)),
        parked: RunUpdate(RunPhase.PARKED),
        done: RunUpdate(RunPhase.FAILED, finished_at=now, failure=Failure("INTERNAL", "R", "m")),
    }
    await desk.write(*(Submission(lease, run_id, 2, [b"e"], update) for run_id, update in updates.items()))
    assert set(await _adopted(desk, lease)) == {going, canceling, due}


async def test_runs_that_are_read_for_a_word_are_counted_and_belong_not_in_memory(desk: Desk) -> None:
    """Waiting, parked, queued by rate: whoever reads one for its word may die of it. Not for kept words."""
    [lease, other, *_] = await desk.leases()
    waiting, parked, quarantined, canceled, silent, done = await desk.start(lease, 6)
    [elsewhere] = await desk.start(other)
    now = datetime.now(UTC)
    failure = Failure("INTERNAL", Reason.QUARANTINED, "again and again")
    updates = {
        waiting: RunUpdate(RunPhase.PAUSED, wake_at=now + timedelta(days=1)),
        parked: RunUpdate(RunPhase.PARKED),
        quarantined: RunUpdate(RunPhase.PARKED, failure=failure),
        canceled: RunUpdate(RunPhase.PARKED, failure=failure),
        silent: RunUpdate(RunPhase.RUNNING, wake_at=now + timedelta(days=1)),
        done: RunUpdate(RunPhase.CANCELED, finished_at=now),
    }
    for run_id in (waiting, parked, quarantined, canceled, done, elsewhere):
        await inbox.put(desk.pool, run_id, "cancel" if run_id == canceled else "signal")
    await desk.write(*(Submission(lease, run_id, 2, [b"e"], update) for run_id, update in updates.items()))
    await inbox.put(desk.pool, waiting, "cancel")
    assert await _adopted(desk, lease, died=True) == dict.fromkeys((waiting, parked, canceled), 1)
    pages = [page async for page in runs.adopt(desk.pool, lease, died=False)]
    assert [one.due for page in pages for one in page] == [False] * 3


async def test_who_does_not_hold_the_shard_adopts_nothing(desk: Desk) -> None:
    """Recovery never adopts what somebody else works on."""
    [lease, *_] = await desk.leases()
    await desk.start(lease)
    assert await _adopted(desk, ShardLease(lease.shard, lease.token - 1), died=True) == {}
    assert await desk.rows("SELECT recoveries FROM runs") == [(0,)]


async def test_deaths_without_progress_are_counted_before_the_run_is_read(desk: Desk) -> None:
    """A planned hand-over counts nothing; progress ends the count; a run that kills its reader is counted."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    counts = [(await _adopted(desk, lease, died=died))[run_id] for died in (True, True, False)]
    assert counts == [1, 2, 2]
    await desk.write(Submission(lease, run_id, 2, [b"e"], RunUpdate(RunPhase.CANCELING, progressed=False)))
    assert (await _adopted(desk, lease, died=True))[run_id] == 3
    await desk.write(Submission(lease, run_id, 3, [b"e"], RunUpdate(RunPhase.CANCELING)))
    assert (await _adopted(desk, lease, died=True))[run_id] == 1


async def test_the_last_death_counts_against_a_run_that_was_being_tried_alone(desk: Desk) -> None:
    """Before the last chance all are equal, however many deaths. A planned leave gives it back."""
    [lease, *_] = await desk.leases()
    tried, beside = await desk.start(lease, 2)
    for _ in range(MAX_RECOVERIES + 1):
        adopted = await _adopted(desk, lease, died=True)
    assert adopted == dict.fromkeys((tried, beside), MAX_RECOVERIES - 1)
    await runs.try_run(desk.pool, ShardLease(lease.shard, lease.token - 1), beside)  # whose lease is over
    await runs.try_run(desk.pool, lease, tried)
    assert await _adopted(desk, lease, died=False) == dict.fromkeys((tried, beside), MAX_RECOVERIES - 1)
    await runs.try_run(desk.pool, lease, tried)
    assert await _adopted(desk, lease, died=True) == {tried: MAX_RECOVERIES, beside: MAX_RECOVERIES - 1}
    await desk.write(Submission(lease, tried, 2, [b"e"], RunUpdate(RunPhase.RUNNING)))
    await runs.try_run(desk.pool, lease, tried)
    assert await desk.rows("SELECT recoveries FROM runs WHERE id = %s", tried) == [(0,)]


async def test_journals_of_many_runs_come_one_after_the_other_in_order(desk: Desk) -> None:
    """One statement for all; each journal from its first event up to the limit."""
    [lease, *_] = await desk.leases()
    run_ids = await desk.start(lease, 5)
    long = run_ids[2]
    await desk.write(Submission(lease, long, 2, [b"%d" % seq for seq in range(2, 301)]))
    journals = {run_id: events async for run_id, events in runs.journals(desk.pool, run_ids, limit=400)}
    assert list(journals) == sorted(run_ids)
    assert [event.seq for event in journals[long]] == list(range(1, 301))
    assert [event.payload for event in journals[long]][1:] == [b"%d" % seq for seq in range(2, 301)]
    assert all(
        [event.payload for event in journals[run_id]] == [b"created"] for run_id in run_ids if run_id != long
    )
    assert [one async for one in runs.journals(desk.pool, [], limit=400)] == []
    beginnings = [events async for _, events in runs.journals(desk.pool, run_ids, limit=7)]
    assert sorted(map(len, beginnings)) == [1, 1, 1, 1, 7]


async def test_a_run_s_events_come_in_pages_without_gaps(desk: Desk) -> None:
    """Each page goes on after the last seq of the one before."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    await desk.write(Submission(lease, run_id, 2, [b"e"] * 6))
    first = await runs.events(desk.pool, run_id, limit=4)
    rest = await runs.events(desk.pool, run_id, after_seq=first[-1].seq, limit=4)
    assert [event.seq for event in [*first, *rest]] == [1, 2, 3, 4, 5, 6, 7]


async def _history(desk: Desk) -> Sequence[RunId]:
    """Ten runs, a minute apart, of two flows in turn; every third one failed. Newest last."""
    [lease, *_] = await desk.leases()
    run_ids = []
    for number in range(10):
        created = START + timedelta(minutes=number)
        run_ids += await desk.start(
            lease,
            run_id=RunId(uuid7(created)),
            created_at=created,
            flow_id=(FLOW, OTHER_FLOW)[number % 2],
        )
    failed = RunUpdate(RunPhase.FAILED, finished_at=START, failure=Failure("INTERNAL", "R", "m"))
    await desk.write(*(Submission(lease, run_id, 2, [b"e"], failed) for run_id in run_ids[::3]))
    return run_ids


async def test_lists_show_the_newest_first_in_pages_that_new_runs_do_not_shift(desk: Desk) -> None:
    """Following the pages shows every run once, also when runs begin in between."""
    run_ids = list(await _history(desk))
    seen: list[RunId] = []
    older_than = None
    while page := await runs.list_page(desk.pool, runs.RunFilter(), limit=3, older_than=older_than):
        seen += [row.run_id for row in page]
        older_than = page[-1].run_id
        await desk.start((await _lease_of(desk)), created_at=START + timedelta(hours=1))
    assert seen == run_ids[::-1]


async def _lease_of(desk: Desk) -> ShardLease:
    [(shard, token)] = await desk.rows("SELECT id, fencing_token FROM shards ORDER BY id LIMIT 1")
    return ShardLease(shard, token)


async def test_lists_filter_by_flow_state_and_time_together(desk: Desk) -> None:
    """Each filter alone and all at once; the first moment is included, the last is not."""
    run_ids = list(await _history(desk))

    async def listed(**filters: object) -> list[int]:
        rows = await runs.list_page(desk.pool, runs.RunFilter(**filters), limit=100)  # type: ignore[arg-type]
        return [run_ids.index(row.run_id) for row in rows]

    minutes = [START + timedelta(minutes=number) for number in range(11)]
    assert await listed(flow_id=OTHER_FLOW) == [9, 7, 5, 3, 1]
    assert await listed(states=(RunPhase.FAILED,)) == [9, 6, 3, 0]
    assert await listed(created_from=minutes[8]) == [9, 8]
    assert await listed(created_before=minutes[2]) == [1, 0]
    assert await listed(created_from=minutes[3], created_before=minutes[10], states=(RunPhase.FAILED,)) == [
        9,
        6,
        3,
    ]
    assert await listed(
        created_from=minutes[1], created_before=minutes[9], flow_id=OTHER_FLOW, states=(RunPhase.FAILED,)
    ) == [3]
    assert await listed(created_from=minutes[8] + timedelta(microseconds=1)) == [9]


async def test_one_run_is_shown_with_what_went_wrong(desk: Desk) -> None:
    """The row has all that a list shows; an unknown id has none."""
    run_ids = await _history(desk)
    row = await runs.get(desk.pool, run_ids[3])
    assert row is not None
    assert (row.state, row.flow_id, row.finished_at) == (RunPhase.FAILED, OTHER_FLOW, START)
    assert row.failure == Failure("INTERNAL", "R", "m")
    assert await runs.get(desk.pool, RunId(uuid7(START))) is None
