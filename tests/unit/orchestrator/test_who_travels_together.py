"""Attempts that are ready together share a call; behind calls without an answer others gather for a while."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from reflux.core.attempt import AttemptResult
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Outcome
from reflux.core.names import RunId, StepPath
from reflux.orchestrator import dispatch, gathering
from reflux.orchestrator.caller import Group, Order
from reflux.orchestrator.dispatch import Places
from reflux.orchestrator.gathering import Gatherer, Queue
from reflux.orchestrator.mesh_view import Reach
from reflux.orchestrator.retry_budget import RetryBudgets
from reflux.runtime.clock import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = Group("node", 0, timedelta(seconds=10), 10)
ASSIGNMENT = Assignment(EffectClass.PURE, Lane.BROAD)
DONE = AttemptResult(Outcome.DONE, ASSIGNMENT, NOW, NOW)


class Wire:
    """Both kinds of call; each waits for `answer`. `calls` holds the steps of each, in order of leaving."""

    channel = Mock()

    def __init__(self):
        self.calls = []
        self.cancelled = []
        self._answers = []

    async def call(self, orders, told=None):
        alone = isinstance(orders, Order)
        steps = [orders.step] if alone else [order.step for order in orders]
        answer = asyncio.get_running_loop().create_future()
        self.calls.append(steps)
        self._answers.append(answer)
        try:
            places = await answer
        except asyncio.CancelledError:
            self.cancelled.append(steps)
            raise
        if alone:
            return DONE
        told([(place, DONE) for place in places])
        return None

    def answer(self, number, *places):
        """Answers a call: these of its items, or all."""
        self._answers[number].set_result(places or range(len(self.calls[number])))


def order(step, *, size=2, group=GROUP):
    raw = b'"' + b"x" * size + b'"'
    return Order(
        RunId("r"),
        StepPath(step),
        1,
        1,
        "k",
        "node",
        None,
        Json(raw),
        ASSIGNMENT,
        group.limit,
        None,
        group=group,
    )


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def gathered(monkeypatch, *, patience, places=None):
    """A gatherer whose calls make others gather for `patience` seconds."""
    monkeypatch.setattr(gathering, "PATIENCE_SECONDS", patience)
    wire, landed = Wire(), []

    async def room():
        pass

    async with asyncio.TaskGroup() as tasks:
        gatherer = Gatherer(
            tasks=tasks,
            caller=wire,
            places=places or Places(),
            clock=ManualClock(NOW),
            room=room,
            budgets=RetryBudgets(SimpleNamespace(reach=lambda *_: Reach((), None))),
        )
        gatherer.batches = wire
        gatherer._queues[GROUP] = Queue(GROUP, usual=patience)

        def add(*steps, **more):
            return [
                gatherer.add(order(step, **more), lambda _, step=step: landed.append(step), lambda: None)
                for step in steps
            ]

        yield wire, landed, add
        for task in tasks._tasks:
            task.cancel()


async def test_what_is_ready_in_one_turn_leaves_at_its_end(monkeypatch):
    """Together; one that is ready alone leaves as soon, and alone."""
    async with gathered(monkeypatch, patience=1000) as (wire, landed, add):
        add("a", "b")
        add("c")
        await turns()
        assert wire.calls == [["a", "b", "c"]]
        add("d")
        await turns()
        assert wire.calls == [["a", "b", "c"], ["d"]]
        wire.answer(0)
        wire.answer(1)
        await turns()
        assert landed == ["a", "b", "c", "d"]


async def test_behind_calls_without_an_answer_others_gather(monkeypatch):
    """They leave together with the first answer of one of them, whatever else it still has to say."""
    async with gathered(monkeypatch, patience=1000) as (wire, landed, add):
        for step in "ab":
            add(step, step * 2)
            await turns()
        for step in "cde":
            add(step)
            await turns()
        assert wire.calls == [["a", "aa"], ["b", "bb"]]
        wire.answer(0, 1)
        await turns()
        assert landed == ["aa"]
        assert wire.calls[2:] == [["c", "d", "e"]]


async def test_a_silent_call_makes_nobody_gather_for_long(monkeypatch):
    """After its patience the next leave, though nothing was answered."""
    async with gathered(monkeypatch, patience=0.001) as (wire, _, add):
        async with asyncio.timeout(20):
            for number in range(6):
                add(f"s{number}", f"t{number}")
                while len(wire.calls) <= number:
                    await asyncio.sleep(0.001)
        assert len(wire.calls) == 6


async def test_a_call_carries_so_many_and_so_much(monkeypatch):
    """Items by the group, bytes by the mesh; the rest takes the next call."""
    async with gathered(monkeypatch, patience=1000) as (wire, _, add):
        add(*(f"s{number}" for number in range(GROUP.most + 3)))
        await turns()
        assert [len(call) for call in wire.calls] == [GROUP.most, 3]
    async with gathered(monkeypatch, patience=1000) as (wire, _, add):
        add("a", "b", "c", size=gathering.MAX_BYTES // 2 - 2)
        await turns()
        assert wire.calls == [["a", "b"], ["c"]]


async def test_groups_do_not_mix(monkeypatch):
    """Another target, or another limit, is another call."""
    async with gathered(monkeypatch, patience=1000) as (wire, _, add):
        add("a", "b")
        add("c", "d", group=GROUP._replace(share=1))
        add("e", "f", group=GROUP._replace(limit=timedelta(seconds=1)))
        await turns()
        assert wire.calls == [["a", "b"], ["c", "d"], ["e", "f"]]


async def test_every_attempt_keeps_its_own_place(monkeypatch):
    """As many leave as there are places; each that is answered or cancelled makes room for one more."""
    monkeypatch.setattr(dispatch, "MAX_CALLS_OF_A_NODE", 3)
    async with gathered(monkeypatch, patience=1000, places=Places()) as (wire, landed, add):
        companions = add("a", "b", "c", "d", "e", "f")
        await turns()
        assert wire.calls == [["a", "b", "c"]]
        companions[0].cancel()
        await turns()
        assert wire.calls[1:] == [["d"]]
        wire.answer(0)
        await turns()
        assert landed == ["b", "c"]
        assert wire.calls[2:] == [["e", "f"]]


async def test_a_call_given_up_before_its_first_turn_holds_nobody_back(monkeypatch):
    """It has begun and not run yet: however many of them there are, the next attempts leave."""
    async with gathered(monkeypatch, patience=1000) as (wire, _, add):
        for step in ("a", "b", "c"):
            (companion,) = add(step)
            await asyncio.sleep(0)  # it departs at the end of this turn
            assert companion.flight is not None
            companion.cancel()
            await turns()
        add("d")
        await turns()
        assert wire.calls == [["d"]]


async def test_a_call_that_nobody_waits_for_is_cancelled(monkeypatch):
    """Not before the last of its attempts is."""
    async with gathered(monkeypatch, patience=1000) as (wire, landed, add):
        first, second = add("a", "b")
        await turns()
        first.cancel()
        await turns()
        assert not wire.cancelled
        second.cancel()
        await turns()
        assert wire.cancelled == [["a", "b"]]
        assert not landed


@pytest.mark.parametrize("kind", [ValueError, KeyError])
async def test_a_defect_is_told_to_everybody_aboard(monkeypatch, kind):
    """Nobody waits for ever."""
    async with gathered(monkeypatch, patience=1000) as (wire, landed, add):
        add("a", "b")
        await turns()
        wire._answers[0].set_exception(kind("ours"))
        await turns()
        assert landed == ["a", "b"]
