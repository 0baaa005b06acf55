"""The journal: what the holder of a shard records, in groups."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from reflux.core.errors import Exhausted
from reflux.core.event import Failure, RunPhase
from reflux.core.names import RunId
from reflux.orchestrator.store import inbox, lane, runs
from reflux.orchestrator.store.errors import RowRefused, Stopped
from reflux.orchestrator.store.journal import Recorded, RunUpdate, Submission, Writer
from tests.store.orchestrator.support import Desk, running


async def test_what_gathered_while_a_batch_was_written_goes_into_one_statement(desk: Desk) -> None:
    """Two hundred submissions of one moment cost two statements at most, and every event is in its place."""
    [lease, *_] = await desk.leases()
    run_ids = await desk.start(lease, 50)
    writer = Writer(desk.dsn)
    async with running(writer):
        futures = [
            writer.submit(Submission(lease, run_id, seq, [b"event"]))
            for seq in range(2, 6)
            for run_id in run_ids
        ]
        answers = await asyncio.gather(*futures)
    assert all(isinstance(answer, Recorded) for answer in answers)
    assert writer.stats.batches <= 2
    assert writer.stats.items == 200
    for run_id in run_ids:
        assert await desk.seqs(run_id) == [1, 2, 3, 4, 5]


async def test_an_answer_tells_when_the_events_were_recorded(desk: Desk) -> None:
    """The time of an event in the API is the database's, as it stands in the table."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    [answer] = await desk.write(Submission(lease, run_id, 2, [b"a", b"b"]))
    events = await runs.events(desk.pool, run_id, after_seq=1)
    assert isinstance(answer, Recorded)
    assert [(event.seq, event.recorded_at, event.payload) for event in events] == [
        (2, answer.time, b"a"),
        (3, answer.time, b"b"),
    ]


async def test_a_submission_moves_its_run_and_folds_its_words_with_its_events(desk: Desk) -> None:
    """State, timer, error and the folded word change in the statement of the events that say so."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    word = await inbox.put(desk.pool, run_id, "cancel", b"why")
    assert word.word is not None
    wake_at = datetime.now(UTC) + timedelta(hours=1)
    failure = Failure("UNAVAILABLE", "NODE_FAULT", "the node is ill")
    update = RunUpdate(RunPhase.CANCELING, wake_at=wake_at, failure=failure)
    await desk.write(Submission(lease, run_id, 2, [b"event"], update, [word.word]))
    row = await runs.get(desk.pool, run_id)
    assert row is not None
    assert (row.state, row.wake_at, row.failure) == (RunPhase.CANCELING, wake_at, failure)
    assert await desk.rows("SELECT FROM inbox") == []


async def test_of_several_updates_of_a_run_in_one_batch_the_last_one_holds(desk: Desk) -> None:
    """A run that starts waiting and finishes within one batch is finished."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    now = datetime.now(UTC)
    await desk.write(
        Submission(lease, run_id, 2, [b"waits"], RunUpdate(RunPhase.RUNNING, wake_at=now)),
        Submission(lease, run_id, 3, [b"done"], RunUpdate(RunPhase.SUCCEEDED, finished_at=now)),
    )
    row = await runs.get(desk.pool, run_id)
    assert row is not None
    assert (row.state, row.wake_at, row.finished_at) == (RunPhase.SUCCEEDED, None, now)


async def test_a_finished_run_stays_as_it_finished(desk: Desk) -> None:
    """A late update, of a mistaken owner even, brings no finished run back."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    now = datetime.now(UTC)
    await desk.write(Submission(lease, run_id, 2, [b"done"], RunUpdate(RunPhase.SUCCEEDED, finished_at=now)))
    await desk.write(Submission(lease, run_id, 3, [], RunUpdate(RunPhase.PARKED)))
    row = await runs.get(desk.pool, run_id)
    assert row is not None
    assert (row.state, row.finished_at) == (RunPhase.SUCCEEDED, now)


async def test_one_bad_row_fails_alone(desk: Desk) -> None:
    """Among sixty-four submissions one that the database refuses takes nothing with it."""
    [lease, *_] = await desk.leases()
    run_ids = await desk.start(lease, 64)
    bad = 37
    submissions = [Submission(lease, run_id, 2, [b"event"]) for run_id in run_ids]
    submissions[bad] = Submission(lease, run_ids[bad], 2, [b"x" * (3 << 20)])
    answers = await desk.write(*submissions)
    assert isinstance(answers[bad], RowRefused)
    assert sum(isinstance(answer, Recorded) for answer in answers) == 63
    for place, run_id in enumerate(run_ids):
        assert await desk.seqs(run_id) == ([1] if place == bad else [1, 2])


@pytest.mark.parametrize(
    "failure",
    [Failure("INTERNAL", "nul \0", ""), Failure("INTERNAL", "half a \ud800 pair", "")],
    ids=["refused by the database", "refused before it is sent"],
)
async def test_a_text_that_cannot_be_stored_fails_alone(desk: Desk, failure: Failure) -> None:
    """Words of a node reach the error columns; such a text spoils only its own run's submission."""
    [lease, *_] = await desk.leases()
    good, bad = await desk.start(lease, 2)
    answers = await desk.write(
        Submission(lease, bad, 2, [b"event"], RunUpdate(RunPhase.RUNNING, failure=failure)),
        Submission(lease, good, 2, [b"event"]),
    )
    assert [type(answer) for answer in answers] == [RowRefused, Recorded]
    assert await desk.seqs(bad) == [1]


async def test_a_refusal_shows_nothing_of_the_row(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """PostgreSQL's details repeat the whole row; neither the log nor the error may."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    secret = Failure("INTERNAL", "R", "hunter2")
    broken = RunUpdate(RunPhase.SUCCEEDED, failure=secret)
    [answer] = await desk.write(Submission(lease, run_id, 2, [b"event"], broken))
    assert isinstance(answer, RowRefused)
    assert "hunter2" not in f"{answer!r} {answer.__cause__!r} {caplog.text}"
    assert "runs_check" in answer.message


async def test_an_event_is_recorded_once(desk: Desk) -> None:
    """Two events with the same place in a journal: the first one stands."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    answers = [*await desk.write(Submission(lease, run_id, 2, [b"one"]))]
    answers += await desk.write(Submission(lease, run_id, 2, [b"other"]))
    assert [type(answer) for answer in answers] == [Recorded, RowRefused]
    assert (await runs.events(desk.pool, run_id))[-1].payload == b"one"


async def test_what_stays_refused_does_so_when_its_batch_is_written_in_parts(desk: Desk) -> None:
    """A word that an event without a place has folded stays in the inbox, for the next who reads the run."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    writer, bad = Writer(desk.dsn), Submission(lease, run_id, 2, [b"x" * (3 << 20)])
    receipt = await inbox.put(desk.pool, run_id, "cancel", b"{}")
    assert receipt.word is not None
    async with running(writer):
        for batch in ([bad], [Submission(lease, run_id, 3, [], words=[receipt.word]), bad]):
            answers = await asyncio.gather(*map(writer.submit, batch), return_exceptions=True)
            assert [type(answer) for answer in answers] == [RowRefused] * len(batch)
    assert await desk.rows("SELECT id FROM inbox") == [(receipt.word,)]


async def test_after_a_refused_event_nothing_of_that_run_is_recorded_until_its_place_is_filled(
    desk: Desk,
) -> None:
    """A journal never has a gap: what follows a refused event is refused, in the same batch and later."""
    [lease, *_] = await desk.leases()
    [run_id, other] = await desk.start(lease, 2)
    writer = Writer(desk.dsn)
    async with running(writer):
        first = await asyncio.gather(
            writer.submit(Submission(lease, run_id, 2, [b"good"])),
            writer.submit(Submission(lease, run_id, 3, [b"x" * (3 << 20)])),
            writer.submit(Submission(lease, run_id, 4, [b"after"])),
            writer.submit(Submission(lease, other, 2, [b"other"])),
            return_exceptions=True,
        )
        [later] = await asyncio.gather(
            writer.submit(Submission(lease, run_id, 5, [b"later"])), return_exceptions=True
        )
        filled = await asyncio.gather(
            writer.submit(Submission(lease, run_id, 3, [b"parked"])),
            writer.submit(Submission(lease, run_id, 4, [b"and on"])),
        )
    assert [type(answer) for answer in first] == [Recorded, RowRefused, RowRefused, Recorded]
    assert isinstance(later, RowRefused)
    assert all(isinstance(answer, Recorded) for answer in filled)
    assert await desk.seqs(run_id) == [1, 2, 3, 4]


async def test_a_full_queue_refuses_and_room_waits(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: over the limit is refused, and whoever waits for room goes on when there is some."""
    monkeypatch.setattr(lane, "QUEUE_BYTES", 9_500)
    [lease, *_] = await desk.leases()
    run_ids = await desk.start(lease, 9)
    writer = Writer(desk.dsn)
    futures = [writer.submit(Submission(lease, run_id, 2, [b"x" * 600])) for run_id in run_ids]
    with pytest.raises(Exhausted):
        writer.submit(Submission(lease, run_ids[0], 3, [b"x" * 600]))
    room = asyncio.ensure_future(writer.room())
    await asyncio.sleep(0)
    assert not room.done()
    async with running(writer):
        await asyncio.wait_for(room, 10)
        await asyncio.gather(*futures)


async def test_a_closed_writer_finishes_what_it_has_and_takes_no_more(desk: Desk) -> None:
    """A drain loses nothing that was submitted."""
    [lease, *_] = await desk.leases()
    [run_id] = await desk.start(lease)
    writer = Writer(desk.dsn)
    future = writer.submit(Submission(lease, run_id, 2, [b"event"]))
    writer.close()
    with pytest.raises(Stopped):
        writer.submit(Submission(lease, run_id, 3, [b"event"]))
    await asyncio.wait_for(writer.run(), 10)
    assert isinstance(future.result(), Recorded)
    assert await desk.seqs(run_id) == [1, 2]


async def test_a_cancelled_writer_leaves_nobody_waiting(desk: Desk) -> None:
    """Everything submitted to a writer that is stopped hard has an answer."""
    [lease, *_] = await desk.leases()
    writer = Writer(desk.dsn)
    future = writer.submit(Submission(lease, RunId("00000000-0000-7000-8000-000000000000"), 1, [b"event"]))
    task = asyncio.ensure_future(writer.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert isinstance(future.exception(), Stopped)
