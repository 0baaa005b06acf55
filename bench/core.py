"""`python -m bench.core`: what a step costs inside the orchestrator, in one process and without I/O.

Walks runs as the worker does (decide, evolve, prepare's hashes, settle, the stored form of each event), all
answers at once, and counts CPU time. Other work on the machine hardly changes these figures, so they say what
a change of the code does when the others cannot.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bench.flows import loop, sequence
from reflux.core import event as ev
from reflux.core.attempt import AttemptResult, settle
from reflux.core.command import Piece, Record, StartAttempt
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment, Outcome
from reflux.core.flow import compile_flow
from reflux.core.names import FlowId, RunId
from reflux.core.route import draw, idempotency_key
from reflux.core.run import begin, evolve, put
from reflux.core.walker import decide, next_wake
from reflux.orchestrator import codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.flows import Flow
    from reflux.core.flow import Flow as CompiledFlow
    from reflux.core.state import RunState

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
RUN: Final = RunId("0197a000-0000-7000-8000-000000000001")
ANSWER: Final = b'{"value":"a trivial step"}'
ROUNDS: Final = 5


def walk(flow: CompiledFlow, given: Json) -> int:
    """One run from its beginning to its end; the number of steps that called a node."""
    created = ev.RunCreated(FlowId("f"), "f", 1, given, "bench", NOW)
    state = begin(RUN, flow, created)
    codec.encode(created)
    waiting = _follow(state)
    steps = 0
    while waiting:
        answered, waiting = waiting, []
        for started in answered:
            steps += 1
            result = AttemptResult(Outcome.DONE, started.assignment, NOW, NOW, output=Json(ANSWER))
            finished = settle(state, started.step, result, jitter=0.5)
            evolve(state, finished)
            codec.encode(finished)
            waiting += _follow(state)
            next_wake(state)
    assert state.finished is not None
    return steps


def _follow(state: RunState) -> list[ev.AttemptStarted]:
    started = []
    while (command := decide(state, NOW)) is not None:
        if isinstance(command, Record):
            evolve(state, command.event)
            codec.encode(command.event)
            continue
        if isinstance(command, Piece):
            put(state, command)
            continue
        assert isinstance(command, StartAttempt)
        number = draw(command.node, RUN, command.step, command.attempt)
        idempotency_key(RUN, command.step, command.generation)
        assignment = Assignment(EffectClass.PURE, Lane.BROAD, draw=number)
        begun = ev.AttemptStarted(command.step, command.attempt, command.generation, assignment, NOW)
        evolve(state, begun)
        started.append(begun)
    return started


def measured(flow: Flow, runs: int) -> tuple[float, Callable[[], None]]:
    """CPU microseconds per step, in the best of some rounds (others only add); and what was measured."""
    result = compile_flow({"name": flow.name, "spec": {"steps": flow.steps}})
    assert result.flow is not None, result.problems
    compiled, given = result.flow, Json.of(flow.given)

    def go() -> None:
        for _ in range(runs):
            walk(compiled, given)

    costs = []
    for _ in range(ROUNDS):
        begin_cpu = time.process_time()
        go()
        costs.append((time.process_time() - begin_cpu) / (runs * flow.work) * 1e6)
    return min(costs), go


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.core", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    options = parser.parse_args()
    for flow, runs in ((sequence(3), 500), (sequence(40), 40), (loop(10_000, 200), 1)):
        cost, go = measured(flow, runs)
        print(f"{flow.name:<24} {cost:>7.1f} µs of CPU per step")
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(go)
            pstats.Stats(profile).sort_stats("tottime").print_stats(22)


if __name__ == "__main__":
    main()
