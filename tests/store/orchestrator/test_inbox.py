"""Words to runs: durable for whoever owns the run, and of no effect once it has finished."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from reflux.core.errors import NotFound
from reflux.core.event import RunPhase
from reflux.core.names import RunId
from reflux.core.reasons import Reason
from reflux.orchestrator.store import inbox, wakeups
from reflux.orchestrator.store.errors import ShardLost
from reflux.orchestrator.store.journal import RunUpdate, ShardLease, Submission

if TYPE_CHECKING:
    from tests.store.orchestrator.support import Desk


async def test_a_word_reaches_the_owner_of_the_run_s_shard_and_nobody_else(desk: Desk) -> None:
    """Who leaves it need not know who owns the run: it is found under that shard's lease only."""
    [lease, other, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    receipt = await inbox.put(desk.pool, run_id, "cancel", b"why")
    [word] = (await wakeups.poll(desk.pool, [lease])).words
    assert (word.id, word.run_id, word.shard) == (receipt.word, run_id, receipt.shard)
    assert (word.kind, word.payload) == ("cancel", b"why")
    assert (await wakeups.poll(desk.pool, [other])).words == ()
    stale = ShardLease(lease.shard, lease.token - 1)
    assert (await wakeups.poll(desk.pool, [stale])).words == ()


async def test_a_word_stays_until_it_is_folded(desk: Desk) -> None:
    """A zombie's fold and a lost answer keep it; the statement that records its event removes it, alone."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    first = (await inbox.put(desk.pool, run_id, "signal", b"1")).word
    second = (await inbox.put(desk.pool, run_id, "signal", b"2")).word
    assert first is not None
    assert second is not None
    stale = ShardLease(lease.shard, lease.token - 1)
    [answer] = await desk.write(Submission(stale, run_id, 2, [b"heard"], words=[first]))
    assert isinstance(answer, ShardLost)
    assert [word.id for word in (await wakeups.poll(desk.pool, [lease])).words] == [first, second]
    assert [word.id for word in (await wakeups.poll(desk.pool, [lease], taken=[first])).words] == [second]
    await desk.write(Submission(lease, run_id, 2, [b"heard"], words=[first]))
    assert [word.id for word in (await wakeups.poll(desk.pool, [lease])).words] == [second]


async def test_a_word_to_a_finished_run_is_not_left_and_its_state_is_told(desk: Desk) -> None:
    """Whoever cancels too late learns how the run ended."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    done = RunUpdate(RunPhase.SUCCEEDED, finished_at=datetime.now(UTC))
    await desk.write(Submission(lease, run_id, 2, [b"done"], done))
    receipt = await inbox.put(desk.pool, run_id, "cancel")
    assert (receipt.state, receipt.word) == (RunPhase.SUCCEEDED, None)
    assert await desk.rows("SELECT FROM inbox") == []


async def test_a_word_left_at_the_moment_its_run_finished_is_cleared_away(desk: Desk) -> None:
    """Nobody will fold it, so the owner is not told of it and it does not stay for ever."""
    [lease, *_] = await desk.leases()
    [run_id, going] = await desk.start(lease, 2)
    await inbox.put(desk.pool, run_id, "cancel")
    await inbox.put(desk.pool, going, "cancel")
    done = RunUpdate(RunPhase.SUCCEEDED, finished_at=datetime.now(UTC))
    await desk.write(Submission(lease, run_id, 2, [b"done"], done))
    due = await wakeups.poll(desk.pool, [lease])
    assert [word.run_id for word in due.words] == [going]
    assert await desk.rows("SELECT run_id::text FROM inbox") == [(going,)]


async def test_a_word_to_no_run_is_refused(desk: Desk) -> None:
    """A wrong id is the caller's mistake, and is told at once."""
    with pytest.raises(NotFound) as refused:
        await inbox.put(desk.pool, RunId("01900000-0000-7000-8000-000000000000"), "cancel")
    assert refused.value.reason is Reason.RUN_NOT_FOUND
