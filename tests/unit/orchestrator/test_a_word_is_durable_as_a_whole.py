"""Between two statements an orchestrator may die: what was said to a run was then heard whole, or not."""

from __future__ import annotations

import asyncio
from typing import Any

from reflux.core.names import StepPath
from reflux.core.run import fold
from reflux.core.word import Terminate, hear
from reflux.orchestrator import codec
from reflux.orchestrator.active_run import ActiveRun
from reflux.orchestrator.store.journal import Recorded, RunUpdate, ShardLease, Submission
from reflux.orchestrator.store.portions import PORTION_BYTES
from reflux.orchestrator.worker import Worker
from reflux.runtime.clock import ManualClock
from tests.support.walk import Walk, flow_of


class Writer:
    """Keeps what it is to write."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []

    def submit(self, submission: Submission) -> asyncio.Future[Recorded]:
        self.submissions.append(submission)
        return asyncio.get_running_loop().create_future()


async def test_a_run_with_a_very_long_end_is_terminated_or_was_never_told_to():
    """Its end alone fills a statement, so there are two of them: the word may not be in the first one."""
    walk = Walk(flow_of({"id": "ok", "approve": {}})).run(until=1)
    # As many steps as a run may have, each with a long id, were done and have something that undoes them.
    walk.state.to_undo += [StepPath(f"{'lines' * 10}[{number}]/price") for number in range(90_000)]
    writer: Any = Writer()
    nobody: Any = None
    worker = Worker(writer=writer, caller=nobody, mesh=nobody, clock=ManualClock(walk.now), host=nobody)
    run = ActiveRun(walk.state, ShardLease(1, 1), len(walk.journal) + 1, RunUpdate(walk.state.phase))
    worker.add(run)
    words = hear(walk.state, Terminate("t1", "ada", ""), walk.now)
    worker.walk(run, words, [7])
    written = [payload for one in writer.submissions for payload in one.payloads]
    assert sum(map(len, written)) > PORTION_BYTES
    for durable in range(len(writer.submissions) + 1):
        kept = [codec.decode(each) for one in writer.submissions[:durable] for each in one.payloads]
        state = fold(walk.state.id, walk.flow, [*walk.journal, *kept])
        assert ("t1" in state.heard) == (state.finished is not None)
    assert [one.words for one in writer.submissions if one.words] == [[7]]
