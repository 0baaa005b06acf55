"""A failure that the flow had dealt with stands only where the version to go on with deals with it, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reflux.core.fork import plan_retry
from tests.support.walk import Answer, Walk, done, failed, flow_of, node
from tests.unit.fork.forks import begun, calls, forked, retried

if TYPE_CHECKING:
    from reflux.core.command import StartAttempt
    from reflux.core.flow import Flow


def let_pass(**keys: Any) -> Flow:
    """A step that fails."""
    return flow_of(node("bad", needs=[], **keys), node("good", needs=[]))


def collected(how: str) -> Flow:
    """An item that fails."""
    loop = {"in": ["bad", "good"], "as": "name", "on_item_error": how}
    return flow_of({"id": "items", "foreach": loop, "steps": [node("do")]})


def raced(join: str) -> Flow:
    """A branch that fails."""
    branches = {"a": [node("bad")], "b": [node("good")]}
    return flow_of({"id": "race", "parallel": {"branches": branches, "join": join}})


def caught(*handlers: dict[str, Any]) -> Flow:
    """A body that fails."""
    parts = {"steps": [node("bad")], "finally": [node("good")]}
    return flow_of({"id": "t", "try": {**parts, **({"catch": list(handlers)} if handlers else {})}})


@pytest.mark.parametrize(
    ("old", "new", "point", "anew"),
    [
        (let_pass(on_error="continue"), let_pass(), "good", ["good", "bad"]),
        (collected("collect"), collected("fail"), "items[1]/do", ["items[0]/do", "items[1]/do"]),
        (raced("any"), raced("all"), "good", ["bad", "good"]),
        (caught({"steps": []}), caught(), "good", ["bad", "good"]),
    ],
)
def test_a_failure_that_would_end_the_new_run_is_done_anew(old, new, point, anew):
    """It would end at once, and nothing could be gone on with."""

    def first_fails(command: StartAttempt) -> Answer:
        return failed() if command.step in ("bad", "items[0]/do") else done(after=0.5)

    origin = Walk(old, first_fails).run()
    assert origin.finished.state == "SUCCEEDED"
    assert sorted(calls(forked(origin, point, flow=new))) == sorted(anew)
    assert set(calls(forked(origin, point, flow=old))) <= {point}


def test_so_is_one_that_was_kept_and_not_come_to():
    """By a retry that was cancelled before."""
    old, new = let_pass(on_error="continue"), let_pass()
    origin = Walk(old, {"bad": [failed()], "good": [failed()]}).run()
    retry = begun(plan_retry(origin.state, old), old).cancel().run()
    assert calls(retry) == []
    assert calls(retried(retry, flow=new)) == ["bad", "good"]
    assert calls(retried(retry, flow=old)) == ["good"]
