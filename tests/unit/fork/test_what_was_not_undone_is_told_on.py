"""What a run should have undone and has not is told by every run that keeps it, until one ends well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reflux.core.children import finished
from reflux.core.event import RunPhase
from reflux.core.left import Left
from reflux.core.names import StepPath
from tests.support.walk import Answer, Walk, done, failed, flow_of, never, node
from tests.unit.fork.forks import retried

if TYPE_CHECKING:
    from reflux.core.command import StartAttempt

PAY = node("pay", compensate={"node": "undo", "with": {}})


def nothing_is_undone(command: StartAttempt) -> Answer:
    """The last step fails, and so does what undoes another one."""
    return failed() if command.step == "z" or command.step.endswith("~compensate") else done()


@pytest.mark.parametrize(
    ("step", "left", "told"),
    [
        (PAY, "pay", "pay"),
        ({"id": "box", "if": {"when": "{{ true }}", "then": [PAY]}}, "pay", "pay"),
        ({"id": "items", "foreach": {"in": [1], "as": "it"}, "steps": [PAY]}, "items[0]/pay", "items"),
    ],
)
def test_a_retry_that_fails_tells_it_again(step: dict[str, Any], left: str, told: str):
    """Of an iteration that was left behind it names the loop."""
    walk = Walk(flow_of(step, node("z")), nothing_is_undone).run()
    assert walk.finished.uncompensated == (left,)
    for _ in range(2):
        walk = retried(walk, nothing_is_undone)
        assert walk.finished.uncompensated == (told,)
    assert retried(walk).finished.uncompensated == ()


def test_so_it_does_of_a_run_that_a_step_had_begun():
    """That failed, which the flow let pass; it is not begun again."""
    flow = flow_of({"id": "c", "flow": "inner", "on_error": "continue"}, node("z"))
    origin = Walk(flow, {"z": [failed()]}, runs={"c": never()}).run(until=1)
    child, left = origin.state.child_runs[StepPath("c")], Left((), (StepPath("pay"),))
    for event in finished(origin.state, StepPath("c"), child, RunPhase.FAILED, origin.now, left=left):
        origin.tell(event)
    assert origin.run().finished.uncompensated == ("c/pay",)
    assert retried(origin, {"z": [failed()]}).finished.uncompensated == ("c",)
