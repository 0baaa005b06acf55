"""Runs whose walks take long hold up nobody, however many they are: they share the turns of the loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reflux.core import event as ev
from reflux.core.names import FlowId, RunId
from reflux.core.run import begin
from reflux.core.walker import decide
from reflux.core.word import Signal, WordId, hear
from reflux.orchestrator import worker as module
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.store.journal import Recorded, RunUpdate, ShardLease, Submission
from reflux.orchestrator.turns import TOGETHER
from reflux.orchestrator.worker import Worker
from reflux.runtime.clock import ManualClock
from tests.support.walk import START, created, flow_of

RUNS = 40
DECISION = timedelta(milliseconds=30)
SLOW = flow_of(
    {"id": "l", "foreach": {"in": "{{ range(5) }}", "as": "x"}, "steps": [{"id": "a", "set": {"n": 1}}]}
)
QUICK = flow_of({"id": "a", "set": {"n": 1}})
DEAF = flow_of({"id": "w", "wait": {"signal": "go"}})


class Writer:
    """Keeps what it is to write."""

    def __init__(self) -> None:
        self.written: list[tuple[Submission, asyncio.Future[Recorded]]] = []

    def submit(self, submission: Submission) -> asyncio.Future[Recorded]:
        self.written.append((submission, asyncio.get_running_loop().create_future()))
        return self.written[-1][1]


class Host:
    """Hears nothing."""

    def changed(self, run_id: RunId, last_seq: int) -> None:
        """A commit."""


class World:
    """A worker each of whose decisions takes its time, and the turns of its loop."""

    def __init__(self, clock: ManualClock) -> None:
        self.writer, nobody = Writer(), None
        writer: Any = self.writer
        mesh: Any = nobody
        caller: Any = nobody
        host: Any = Host()
        self.clock = clock
        self.worker = Worker(writer=writer, caller=caller, mesh=mesh, clock=clock, host=host)
        self.turn = 0
        self.decisions: Counter[int] = Counter()
        """By turn."""

    def decide(self, state, now):
        self.clock.advance(DECISION)
        self.decisions[self.turn] += 1
        return decide(state, now)

    def add(self, flow, number: int, flow_id: str = "slow") -> ActiveRun:
        run_id = RunId(f"0197a000-0000-7000-8000-{number:012}")
        state = begin(run_id, flow, replace(created(flow), flow_id=FlowId(flow_id)))
        run = ActiveRun(state, ShardLease(1, 1), 2, RunUpdate(state.phase, wake_at=START))
        self.worker.add(run)
        return run

    async def turns(self, until) -> None:
        """Of the loop."""
        while not until():
            await asyncio.sleep(0)
            self.turn += 1


@pytest.fixture
def world(monkeypatch) -> World:
    """It stands still but for decisions."""
    made = World(ManualClock(START))
    monkeypatch.setattr(module, "decide", made.decide)
    return made


async def test_a_turn_of_the_loop_is_as_long_with_many_slow_runs_as_with_few(world):
    """All of them begin at once, and all come to their ends."""
    runs = [world.add(SLOW, number) for number in range(RUNS)]
    await world.turns(until=lambda: all(run.state.finished for run in runs))
    assert max(world.decisions.values()) <= TOGETHER / DECISION + 2


async def test_a_run_that_comes_meanwhile_does_not_wait_for_all_of_them(world):
    """It is of another flow, and flows take turns."""
    runs = [world.add(SLOW, number) for number in range(RUNS)]
    await world.turns(until=lambda: world.turn == 3)
    quick = world.add(QUICK, RUNS, "quick")
    await world.turns(until=lambda: quick.state.finished)
    assert world.turn < 12
    assert not any(run.state.finished for run in runs)


async def test_who_waits_for_a_turn_stays_in_memory_and_is_due_in_its_row(world):
    """It has heard a signal and not taken it: dropped, or taken over, it would wait for the next word."""
    run = world.add(DEAF, RUNS, "deaf")
    await world.turns(until=lambda: run.state.awaited and not run.goes_on)
    for number in range(RUNS):
        world.add(SLOW, number)
    signal = Signal(WordId("s1"), "ada", "go", "", created(DEAF).input)
    world.worker.walk(run, hear(run.state, signal, START), [7])
    [(heard, _)] = [each for each in world.writer.written if each[0].words]
    for _, commit in [each for each in world.writer.written if each[0].run_id == run.id]:
        commit.set_result(Recorded(START))
    await asyncio.sleep(0)
    assert (heard.update is None, run.shown.wake_at) == (False, START)
    assert world.worker.runs[run.id] is run
    await world.turns(until=lambda: run.state.finished)
    assert isinstance(run.state.finished, ev.RunFinished)
