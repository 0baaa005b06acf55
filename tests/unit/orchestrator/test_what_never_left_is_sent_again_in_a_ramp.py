"""What no version took waits for it in a ramp of its own: it costs no token, and comes back as no herd."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from reflux.core.attempt import NOT_SENT_PATIENCE, AttemptResult
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Failure, Outcome
from reflux.core.names import RunId, StepPath
from reflux.orchestrator.caller import Again, Order
from reflux.orchestrator.mesh_view import Reach, TargetView
from reflux.orchestrator.ramp import CREEP_SECONDS, MOST, PROBE, Ramp
from reflux.orchestrator.retry_budget import AGAIN, BURST, SHARE, RetryBudgets, sent_again
from tests.support.walk import Walk, failed, flow_of, never, node, not_sent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WAY = Assignment(EffectClass.PURE, Lane.BROAD, chosen="1.0.0", tries=1, flags="UH")
NOBODY = AttemptResult(
    Outcome.NOT_SENT, WAY, NOW, NOW, failure=Failure("UNAVAILABLE", "NODE_FAULT", "no host"), counted=False
)
FULL = AttemptResult(
    Outcome.NOT_SENT, WAY, NOW, NOW, failure=Failure("UNAVAILABLE", "NODE_FULL", "full"), counted=False
)
WELL = AttemptResult(
    Outcome.DONE, Assignment(EffectClass.PURE, Lane.BROAD, chosen="1.0.0", answered_by="1.0.0"), NOW, NOW
)


class Time:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def order(*, again=True, repeats=False):
    return Order(
        run_id=RunId("r"),
        step=StepPath("s"),
        attempt=2,
        fencing_token=1,
        idempotency_key="k",
        node="n",
        version=None,
        input=Json(b"{}"),
        assignment=Assignment(EffectClass.PURE, Lane.BROAD),
        limit=timedelta(seconds=1),
        total_deadline=None,
        repeats=repeats,
        again=Again() if again else None,
    )


@pytest.fixture
async def time():
    return Time()


@pytest.fixture
async def budget(time):
    reach = Reach((), None, bounds=(10_000,), targets=(TargetView("1.0.0", 10_000, (), 1),))
    return RetryBudgets(SimpleNamespace(reach=lambda *_: reach), time)


@pytest.fixture
async def gone(budget):
    """2,000 that wait to be sent again, and how many of them have left."""
    left: list[int] = []

    async def one(number: int) -> None:
        await budget.wait(order())
        left.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(2000)]
    await asyncio.sleep(0)
    yield left
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pass(time, budget, seconds, result):
    """Lets time go by, in which the version answers every 10 ms."""
    for _ in range(round(seconds * 100)):
        time.now += 0.01
        budget.landed(order(), result)
        await asyncio.sleep(0)


async def test_while_nobody_takes_them_one_a_second_asks(time, budget, gone):
    """Beyond what was saved up."""
    assert len(gone) == BURST
    await _pass(time, budget, 10, NOBODY)
    assert len(gone) == pytest.approx(BURST + 10 * PROBE, abs=2)


async def test_from_the_first_success_they_leave_in_a_ramp(time, budget, gone):
    """Twice as many in each second; a failure puts it back to the beginning."""
    await _pass(time, budget, 3, NOBODY)
    counts = []
    for _ in range(4):
        before = len(gone)
        await _pass(time, budget, 1, WELL)
        counts.append(len(gone) - before)
    assert counts[0] == pytest.approx(1.44 * AGAIN, rel=0.1)
    assert counts[1:] == pytest.approx([2 * counts[0], 4 * counts[0], 8 * counts[0]], rel=0.1)
    before = len(gone)
    await _pass(time, budget, 1, NOBODY)
    assert len(gone) - before <= 2 + BURST


async def test_of_a_version_that_nobody_has_heard_of_they_leave_in_a_ramp_too(time, budget, gone):
    """That is what a takeover looks like; it need not wait for a first success, which may take long."""
    time.now += 0.1
    budget.landed(order(), WELL)
    await asyncio.sleep(0)
    assert len(gone) <= 2 * BURST


async def test_a_full_node_is_well(time, budget, gone):
    """It does not set the ramp back."""
    await _pass(time, budget, 1, WELL)
    first = len(gone) - BURST
    for _ in range(50):
        await _pass(time, budget, 0.01, FULL)
        await _pass(time, budget, 0.01, WELL)
    assert len(gone) - BURST - first == pytest.approx(2 * first, rel=0.1)


async def test_what_never_arrived_has_paid_for_no_retry(budget):
    """However often it was sent; when it has arrived it pays once."""
    for _ in range(1000):
        budget.landed(order(), NOBODY)
    for _ in range(int(BURST)):
        await asyncio.wait_for(budget.wait(order(again=False, repeats=True)), 1)
    waiting = asyncio.create_task(budget.wait(order(again=False, repeats=True)))
    for number in range(round((BURST + 1) / SHARE)):
        await asyncio.sleep(0)
        assert not waiting.done(), number
        budget.landed(order(), WELL)
    await asyncio.wait_for(waiting, 1)


async def test_a_first_attempt_waits_for_nothing(budget, gone):
    """It is no herd, and may be the probe."""
    await asyncio.wait_for(budget.wait(order(again=False)), 1)
    assert len(gone) == BURST


def test_after_a_ramp_that_was_too_much_the_next_one_creeps():
    """From half of what was too much; to there it doubles as before."""
    ramp = Ramp(10.0)
    ramp.told(0, ill=False)
    assert ramp.rate(5) == 320
    ramp.told(5, ill=True)
    assert ramp.rate(6) == PROBE
    ramp.told(7, ill=False)
    assert [ramp.rate(7), ramp.rate(8), ramp.rate(11)] == [10, 20, 160]
    assert ramp.rate(11 + CREEP_SECONDS) == pytest.approx(2 * 160 + 10)
    assert ramp.rate(10_000) == MOST


def test_a_failure_right_at_the_beginning_says_nothing_of_how_much_is_too_much():
    """It left before, or was a probe."""
    ramp = Ramp(10.0)
    ramp.told(0, ill=False)
    ramp.told(0.5, ill=True)
    ramp.told(1, ill=False)
    assert ramp.rate(7) == 640


def _again(walk, *, taken_over=False):
    return sent_again(walk.state, StepPath("a"), taken_over=taken_over)


def test_who_is_sent_again_and_until_when():
    """Only what never left, for as long as its step is patient; of a run that was taken over everything."""
    walk = Walk(flow_of(node("a")))
    assert _again(walk) is None
    assert _again(walk, taken_over=True) == Again()
    walk = Walk(flow_of(node("a")), {"a": [not_sent(), never()]}).run(until=0.05)
    again = _again(walk)
    first = walk.state.steps[StepPath("a")].finished[0]
    assert again == Again(first.start_time + NOT_SENT_PATIENCE, first.failure)
    retry = {"attempts": 2, "delay": "9s"}
    walk = Walk(flow_of(node("a", retry=retry)), {"a": [failed("UNAVAILABLE")]}).run(until=1)
    assert _again(walk, taken_over=True) is None
    timeout = {"total": "5s"}
    walk = Walk(flow_of(node("a", timeout=timeout)), {"a": [not_sent(), never()]}).run(until=0.05)
    assert _again(walk).until is None
