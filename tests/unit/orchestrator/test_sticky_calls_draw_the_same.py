"""What an attempt sticks to: what its step says, else what the node's route says, else nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from reflux.core import route as draws
from reflux.core.command import StartAttempt
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.expression import compile_expression
from reflux.core.names import RunId, StepPath
from reflux.core.route import sticky_digest, sticky_draw
from reflux.orchestrator import dispatch
from reflux.orchestrator.dispatch import choose, prepare
from reflux.orchestrator.fairness import NOBODY
from reflux.orchestrator.mesh_view import MeshView, Reach, RouteView, TargetView, VersionView
from reflux.runtime.settings import Address
from tests.support.walk import Walk, done, failed, flow_of, node

CUSTOMER = {"customer": "ada"}
STICKY = compile_expression("input.customer")


def command(given: Any = CUSTOMER, *, attempt: int = 1, **more: Any) -> StartAttempt:
    return StartAttempt(
        step=StepPath("charge"),
        attempt=attempt,
        generation=0,
        node="payment.charge",
        version=more.pop("version", None),
        input=Json.of(given),
        attempt_timeout=None,
        total_deadline=None,
        **more,
    )


def drawn(reach: Reach, run: str = "r", **given: Any) -> tuple[int, bytes]:
    """The draw of an attempt, and the digest it was made from."""
    _, found = choose(command(**given), RunId(run), reach)
    return found.draw, found.sticky


def test_every_run_step_and_attempt_of_a_value_draws_the_same() -> None:
    """By the route's default: the draw is made from node, salt and value, and from nothing else."""
    reach = Reach((), None, sticky=STICKY, salt="s")
    digest = sticky_digest("payment.charge", "s", b'"ada"')
    for run in ("r", "q"):
        for attempt in (1, 2, 7):
            assert drawn(reach, run, attempt=attempt) == (sticky_draw(digest), digest)
    assert drawn(reach, given={"customer": "bob"}) != drawn(reach)
    assert drawn(Reach((), None, sticky=STICKY, salt="t")) != drawn(reach), "another salt deals anew"


@pytest.mark.parametrize("given", [{}, {"customer": None}, [], "ada"])
def test_without_the_value_each_attempt_draws_for_itself(given: Any) -> None:
    """A missing field of the route's default is no error; the empty digest in the journal says so."""
    reach = Reach((), None, sticky=STICKY, salt="s")
    found = {drawn(reach, run, attempt=attempt, given=given) for run in "rq" for attempt in (1, 2)}
    assert len(found) == 4
    assert {digest for _, digest in found} == {b""}


def test_the_steps_own_value_goes_before_the_routes() -> None:
    """Also when it is nothing: a step can opt out of its node's default."""
    reach = Reach((), None, sticky=STICKY, salt="s")
    own = drawn(reach, sticky=Json.of({"b": 1, "a": [2]}), own_sticky=True)
    assert own[1] == sticky_digest("payment.charge", "s", b'{"a":[2],"b":1}')
    assert drawn(reach, own_sticky=True)[1] == b""
    alone = drawn(Reach((), None), sticky=Json.of("ada"), own_sticky=True)
    assert alone[1] == sticky_digest("payment.charge", "", b'"ada"')


def test_a_pin_draws_for_nobody() -> None:
    """Nothing is kept of a value that decided nothing."""
    assert drawn(Reach((), None, sticky=STICKY), version="1.0.0")[1] == b""


def test_only_equals_travel_together() -> None:
    """Attempts of one target share a call when they stick to the same value, or all to none."""
    mesh = MeshView(Address("127.0.0.1", 0), Address("127.0.0.1", 0))
    version = VersionView("payment.charge", "1.0.0", "d", EffectClass.PURE, None, 1, batch=10)
    mesh._versions = {"payment.charge": {"1.0.0": version}}
    mesh._routes = {
        "payment.charge": RouteView("payment.charge", 1, (TargetView("1.0.0", 10_000, ()),), STICKY, "s")
    }

    def group(given: Any) -> object:
        now = datetime.now(UTC)
        return prepare(mesh, RunId("r"), 1, command(given), now, turn=NOBODY)[1].group

    assert group(CUSTOMER) == group({"customer": "ada", "more": 1})
    assert group(CUSTOMER) != group({"customer": "bob"})
    assert group({}) == group({"other": 1}) != group(CUSTOMER)


def test_a_steps_sticky_value_is_worked_out_with_its_input() -> None:
    """From whatever the step may read; a field that is missing fails it, where `.?` does not allow for it."""
    sticky = {"sticky": "{{ steps.a.output.who }}"}
    walk = Walk(flow_of(node("a"), node("b", route=sticky)), {"a": [done({"who": "ada"})]}).run()
    (ordered,) = [each for each in walk.started if each.step == "b"]
    assert (ordered.sticky, ordered.own_sticky) == (Json.of("ada"), True)

    walk = Walk(flow_of(node("a"), node("b", route=sticky)), {"a": [done({})]}).run()
    assert walk.state.steps["b"].failure.reason == "EXPRESSION_FAILED"

    optional = {"sticky": "{{ steps.a.output.?who }}"}
    walk = Walk(flow_of(node("a"), node("b", route=optional)), {"a": [done({})]}).run()
    (ordered,) = [each for each in walk.started if each.step == "b"]
    assert (ordered.sticky, ordered.own_sticky) == (None, True)


def test_a_replay_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding a recorded run makes neither draws nor digests: it reads them."""
    flow = flow_of(node("a", retry={"attempts": 2, "delay": "1s"}, route={"sticky": "{{ input.who }}"}))
    walk = Walk(flow, {"a": [failed("UNAVAILABLE"), done()]}, {"who": "ada"}).run()

    def never(*_: Any) -> Any:
        raise AssertionError("a replay has drawn")

    for module in (draws, dispatch):
        for name in ("draw", "sticky_draw", "sticky_digest"):
            monkeypatch.setattr(module, name, never)
    assert walk.replayed().steps["a"].attempt == 2
