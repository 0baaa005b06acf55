"""A start under way for a run that was read again meanwhile does not stand in the way of the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from reflux.core.command import StartChild
from reflux.core.event import RunPhase
from reflux.core.names import FlowId, RunId, StepPath
from reflux.core.run import begin, evolve
from reflux.core.walker import decide
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.children import Children
from reflux.orchestrator.flows.cache import Resolved
from reflux.orchestrator.store.errors import ShardLost
from reflux.orchestrator.store.journal import RunUpdate, ShardLease
from reflux.orchestrator.store.start import Started
from reflux.runtime.clock import ManualClock
from tests.support.walk import RUN, START, created, flow_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core import event as ev
    from reflux.orchestrator.store.start import StartRequest

FLOW = FlowId("00000000-0000-4000-8000-000000000001")
SUB = StepPath("sub")


class Flows:
    async def resolve(self, key: str) -> Resolved:
        return Resolved(FLOW, key, 1, flow_of({"id": "a", "set": {"n": 1}}))


class Starter:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[StartRequest, asyncio.Future[Started]]] = []

    async def start(self, request: StartRequest) -> Started:
        answer: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self.asked.append((request, answer))
        return await answer


class Worker:
    def __init__(self) -> None:
        self.runs: dict[RunId, ActiveRun] = {}
        self.launching: set[RunId] = set()
        self.draining = False

    def add(self, run: ActiveRun) -> None:
        self.runs[run.id] = run

    def full(self) -> bool:
        return False

    def walk(self, run: ActiveRun, events: Sequence[ev.Event]) -> None:
        for event in events:
            evolve(run.state, event)


def read(token: int) -> ActiveRun:
    """A run that has asked for a child, as whoever reads it under this token gets it."""
    flow = flow_of({"id": SUB, "flow": "inner"})
    state = begin(RUN, flow, created(flow))
    command = decide(state, START)
    assert isinstance(command, StartChild)
    evolve(state, command.requested)
    return ActiveRun(state, ShardLease(0, token), 3, RunUpdate(RunPhase.RUNNING))


async def test_the_child_of_a_run_that_was_read_again_is_begun_under_its_new_lease():
    """The shard is lost and won again in the middle of a start: that one fails, and the child begins."""
    starter, worker, unused = Starter(), Worker(), None
    parts: Any = {"pool": unused, "reader": unused, "flows": Flows(), "starter": starter}
    children = Children(**parts, clock=ManualClock(START))
    serving: Any = worker
    children.serve(serving, lambda: None)
    running = asyncio.create_task(children.run())
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
        for token in (1, 2):
            worker.runs[RUN] = read(token)
            children.begin(worker.runs[RUN], [SUB])
            await asyncio.sleep(0.01)
        [(first, answer)] = starter.asked
        answer.set_exception(ShardLost("lost"))
        while len(starter.asked) < 2:
            await asyncio.sleep(0.01)
        second, answer = starter.asked[1]
        answer.set_result(Started(second.run_id, created=True, recorded_at=START))
        while second.run_id not in worker.runs:
            await asyncio.sleep(0.01)
    assert first.run_id == second.run_id
    assert (first.lease.token, second.lease.token) == (1, 2)
    assert worker.runs[RUN].state.child_runs == {SUB: second.run_id}
    assert worker.launching == set()
    running.cancel()
    await asyncio.wait([running])
