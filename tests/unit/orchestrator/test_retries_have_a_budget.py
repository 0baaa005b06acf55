"""A version's retries are paid for by its first attempts, and leave in a ramp after it was ill."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest

from reflux.core.attempt import AttemptResult
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Failure, Outcome
from reflux.core.names import RunId, StepPath
from reflux.orchestrator.caller import Order, single_try
from reflux.orchestrator.fairness import Turn
from reflux.orchestrator.mesh_view import Reach, TargetView
from reflux.orchestrator.retry_budget import BURST, SHARE, RetryBudgets

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Time:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def budgets(time, tries=1, fallback=()):
    target = TargetView("1.0.0", 10_000, fallback, tries)
    reach = Reach((), None, bounds=(10_000,), targets=(target,))
    return RetryBudgets(SimpleNamespace(reach=lambda *_: reach), time)


def order(*, repeats=False, flow="f"):
    return Order(
        run_id=RunId("r"),
        step=StepPath("s"),
        attempt=2 if repeats else 1,
        fencing_token=1,
        idempotency_key="k",
        node="n",
        version=None,
        input=Json(b"{}"),
        assignment=Assignment(EffectClass.PURE, Lane.BROAD),
        limit=timedelta(seconds=1),
        total_deadline=None,
        turn=Turn(flow, 0),
        repeats=repeats,
    )


def result(*, tries=1, ill=False, own=False):
    assignment = Assignment(EffectClass.PURE, Lane.BROAD, chosen="1.0.0", answered_by="1.0.0", tries=tries)
    failure = Failure("UNAVAILABLE", "NODE_FAULT", "ill") if ill or own else None
    return AttemptResult(Outcome.DONE, assignment, NOW, NOW, failure=failure, own=own)


def paid(budget, number=1, *, repeats=False):
    """So many attempts came to the version."""
    for _ in range(number):
        one = budget.leaves(order(repeats=repeats))
        budget.landed(one, result(own=True, tries=1 + sum(more for _, more in one.reserved)))


async def emptied(budget):
    """Takes what a version begins with, pays it back by first attempts, and leaves it ill."""
    for _ in range(int(BURST)):
        await asyncio.wait_for(budget.wait(order(repeats=True)), 1)
    paid(budget, round(BURST / SHARE))
    budget.landed(order(repeats=True), result(ill=True))


async def left(budget, number, flow="f"):
    """Retries that want to leave, and the list of the flows of those that have."""
    gone: list[str] = []

    async def one():
        await budget.wait(order(repeats=True, flow=flow))
        gone.append(flow)

    tasks = [asyncio.create_task(one()) for _ in range(number)]
    await asyncio.sleep(0)
    return gone, tasks


async def ended(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_quiet_flow_retries_as_it_was_written():
    """What a version begins with is enough for the few retries of a few runs."""
    await emptied(budgets(Time()))


async def test_five_first_attempts_pay_for_one_retry():
    """However many wait; none leaves on credit."""
    budget = budgets(Time())
    await emptied(budget)
    gone, tasks = await left(budget, 30)
    assert not gone
    paid(budget, 100)
    await asyncio.sleep(0)
    assert len(gone) == 20
    await ended(*tasks)


async def test_what_was_lent_is_paid_back_first():
    """So the ratio holds from the first attempt on, and the burst is in it."""
    budget = budgets(Time())
    gone, tasks = await left(budget, 30)
    assert len(gone) == BURST
    for number in range(1, 101):
        paid(budget)
        await asyncio.sleep(0)
        assert len(gone) <= max(BURST, SHARE * number + 0.01)
    assert len(gone) == 20
    await ended(*tasks)


async def test_retries_earn_nothing():
    """Or a retry would pay for the next one."""
    budget = budgets(Time())
    await emptied(budget)
    gone, tasks = await left(budget, 5)
    paid(budget, 1000, repeats=True)
    await asyncio.sleep(0)
    assert not gone
    await ended(*tasks)


async def test_an_ill_version_without_traffic_gets_one_a_second():
    """So what is held back is never held for ever, and asks whether it is well again."""
    time = Time()
    budget = budgets(time)
    await emptied(budget)
    gone, tasks = await left(budget, 20)
    for second in range(1, 6):
        time.now = second
        budget.landed(order(repeats=True), result(ill=True))
        await asyncio.sleep(0)
        assert len(gone) == second
    await ended(*tasks)


async def test_after_a_recovery_what_was_held_leaves_in_a_ramp():
    """Each second twice as many as in the one before, from one; a failure puts it back to the beginning."""
    time = Time()
    budget = budgets(time)
    await emptied(budget)
    gone, tasks = await left(budget, 2000)
    budget.landed(order(repeats=True), result())
    rates, before = [], 0
    for tick in range(1, 601):
        time.now = tick / 100
        budget.landed(order(repeats=True), result())
        await asyncio.sleep(0)
        if tick % 100 == 0:
            rates.append(len(gone) - before)
            before = len(gone)
    assert rates[0] <= 2
    assert all(later <= 2.2 * earlier + 1 for earlier, later in pairwise(rates))
    assert rates[-1] > 30
    budget.landed(order(repeats=True), result(ill=True))
    time.now += 1
    budget.landed(order(repeats=True), result(ill=True))
    await asyncio.sleep(0)
    assert len(gone) - before <= 2
    await ended(*tasks)


async def test_a_target_fault_holds_nobody_back():
    """What an input names is dead; the version is well, so its ramp goes on."""
    time = Time()
    budget = budgets(time)
    await emptied(budget)
    gone, tasks = await left(budget, 100)
    for tick in range(1, 601):
        time.now = tick / 100
        budget.landed(order(repeats=True), result(own=True))
        await asyncio.sleep(0)
    assert len(gone) > 30
    await ended(*tasks)


async def test_flows_take_turns_at_the_tokens():
    """A flow with a hundred retries held back delays another by one of its own."""
    budget = budgets(Time())
    await emptied(budget)
    loud, many = await left(budget, 100, "loud")
    quiet, one = await left(budget, 1, "quiet")
    paid(budget, 10)
    await asyncio.sleep(0)
    assert (len(loud), len(quiet)) == (1, 1)
    await ended(*many, *one)


async def test_one_that_gives_up_waiting_costs_no_token():
    """Not before it was let go, and not in the moment of it."""
    budget = budgets(Time())
    await emptied(budget)
    _, tasks = await left(budget, 3)
    await ended(tasks[0])
    paid(budget, 5)
    await ended(tasks[1])
    await asyncio.sleep(0)
    assert tasks[2].done()


async def test_tries_are_paid_before_the_call_and_the_rest_is_given_back():
    """Two of three tries may be repetitions; with an empty budget there is one."""
    budget = budgets(Time(), tries=3)
    calls = [budget.leaves(order()) for _ in range(6)]
    assert [call.reserved for call in calls] == [(("1.0.0", 2),)] * 5 + [()]
    assert [call.single for call in calls] == [False] * 5 + [True]
    budget.landed(calls[0], result(tries=1))
    assert budget.leaves(order()).reserved == (("1.0.0", 2),)
    budget.landed(calls[1], result(tries=3))
    assert budget.leaves(order()).single


def chain_of(time, **tries):
    """Budgets of a node whose versions fall back to each other in this order, with their tries."""
    views = {name: TargetView(name, 0, (), number) for name, number in tries.items()}
    first, *others = tries
    head = TargetView(first, 10_000, tuple(others), tries[first])
    reaches = {name: Reach((), None, targets=(view,)) for name, view in views.items()}
    reaches[None] = Reach((), None, bounds=(10_000,), targets=(head,))
    return RetryBudgets(SimpleNamespace(reach=lambda _, pin: reaches[pin]), time)


def answered(version, tries):
    """A call that was given to `a`, and answered by this version."""
    assignment = Assignment(EffectClass.PURE, Lane.BROAD, chosen="a", answered_by=version, tries=tries)
    return AttemptResult(Outcome.DONE, assignment, NOW, NOW)


async def test_each_version_of_a_chain_pays_for_its_own_repetitions():
    """One that is tried once pays nothing, whoever comes before it."""
    budget = chain_of(Time(), a=3, b=1, c=2)
    call = budget.leaves(order())
    assert (call.reserved, call.single) == ((("a", 2), ("c", 1)), False)


@pytest.mark.parametrize(
    ("version", "tries", "kept"),
    [("a", 1, [0, 0, 0]), ("a", 3, [2, 0, 0]), ("b", 2, [1, 1, 0]), ("b", 6, [2, 2, 0]), ("", 2, [1, 1, 1])],
)
async def test_what_a_chain_surely_did_not_use_is_given_back(version, tries, kept):
    """Whoever comes after who answered was not tried; before it all that may have been is paid."""
    budget = chain_of(Time(), a=3, b=3, c=3)
    call = budget.leaves(order())
    assert call.reserved == (("a", 2), ("b", 2), ("c", 2))
    budget.landed(call, answered(version, tries))
    assert [BURST - budget._budget("n", each).repeats.tokens for each in "abc"] == kept


async def test_a_hand_over_earns_for_who_answered():
    """It is a first request there, as an assigned one is; what it earns pays back what was lent."""
    budget = chain_of(Time(), a=1, b=2)
    for _ in range(5):
        budget.landed(budget.leaves(order()), answered("b", 2))
    assert budget._budget("n", "b").repeats._lead == pytest.approx(-BURST + 5 * SHARE)


async def test_who_was_passed_over_earns_nothing():
    """One that is ejected has not heard of the call that another one answered at the first try."""
    budget = chain_of(Time(), a=1, b=1)
    for _ in range(5):
        budget.landed(budget.leaves(order()), answered("b", 1))
    assert budget._budget("n", "a").repeats._lead == -BURST
    assert budget._budget("n", "b").repeats._lead == pytest.approx(-BURST + 5 * SHARE)


@pytest.mark.parametrize("empty", ["a", "b"])
async def test_one_empty_budget_makes_the_whole_chain_thin(empty):
    """Each version is tried once, and nothing is taken from the others for it."""
    budget = chain_of(Time(), a=2, b=2)
    assert budget._budget("n", empty).repeats.take(10)
    calls = [budget.leaves(order()) for _ in range(3)]
    assert [(call.single, call.reserved) for call in calls] == [(True, ())] * 3
    (other,) = {"a", "b"} - {empty}
    assert budget._budget("n", other).repeats.tokens == BURST
    assert [single_try(call) for call in calls] == [("x-reflux-tries", "once")] * 3
    assert single_try(replace(calls[0], version="a")) == ("x-envoy-max-retries", "0")
