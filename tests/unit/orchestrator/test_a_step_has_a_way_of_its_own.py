"""`fallback`, `tries` and `try_timeout` of a step: what is drawn and sent, who comes next, what is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from reflux.core import route as draws
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.names import RunId
from reflux.core.run import fold
from reflux.core.walker import decide
from reflux.orchestrator import dispatch
from reflux.orchestrator.caller import NodeCaller
from reflux.orchestrator.dispatch import prepare
from reflux.orchestrator.fairness import NOBODY
from reflux.orchestrator.mesh_view import MeshView, RouteView, TargetView, VersionView
from reflux.orchestrator.provenance import own_way
from reflux.orchestrator.resolver import abilities_of
from reflux.orchestrator.retry_budget import RetryBudgets
from reflux.runtime.clock import ManualClock
from reflux.runtime.settings import Address
from tests.support.walk import RUN, Walk, done, failed, flow_of, node

if TYPE_CHECKING:
    from reflux.core.command import StartAttempt
    from reflux.orchestrator.caller import Order

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RETRIES = "x-envoy-max-retries"
LIMIT = "x-envoy-upstream-rq-per-try-timeout-ms"


def mesh() -> MeshView:
    """`x` in three versions: 1.0.0 gets 7000 and falls back to 2.0.0, which gets 3000."""
    view = MeshView(Address("127.0.0.1", 0), Address("127.0.0.1", 0))
    names = ("1.0.0", "2.0.0", "3.0.0")
    view._versions = {
        "x": {name: VersionView("x", name, name, EffectClass.PURE, None, 1, batch=10) for name in names}
    }
    targets = (TargetView("1.0.0", 7000, ("2.0.0",), tries=2), TargetView("2.0.0", 3000, ()))
    view._routes = {"x": RouteView("x", 4, targets)}
    return view


def command(route: dict[str, Any], **keys: Any) -> StartAttempt:
    """The first attempt of a step with this route."""
    walk = Walk(flow_of(node("a", route=route, **keys)))
    found = decide(walk.state, walk.now)
    assert isinstance(found, dispatch.StartAttempt)
    return found


def sent(route: dict[str, Any], run: str = "r", **more: Any) -> Order:
    """Its order."""
    return prepare(mesh(), RunId(run), 1, replace(command(route), **more), NOW, turn=NOBODY)[1]


def headers(order: Order) -> dict[str, str]:
    """What the mesh is told of it."""
    caller = NodeCaller(SimpleNamespace(unary_unary=lambda *_, **__: None), "here", ManualClock(NOW))
    return dict(caller._envelope(order))


@pytest.mark.parametrize(("timeout", "seconds"), [({}, 60), ({"timeout": {"attempt": "9s"}}, 9)])
def test_an_attempt_says_how_long_it_may_take(timeout: dict[str, Any], seconds: int) -> None:
    """In its journal too, by its step, or by the versions it can meet, which say nothing here."""
    started, order, _ = prepare(mesh(), RunId("r"), 1, command({}, **timeout), NOW, turn=NOBODY)
    assert started.limit == order.limit == timedelta(seconds=seconds)


@pytest.mark.parametrize("route", [{"fallback": ["3.0.0"]}, {"tries": 3}, {"try_timeout": "1s"}])
def test_the_targets_of_the_nodes_route_are_drawn_for_the_step(route: dict[str, Any]) -> None:
    """As the mesh would draw them, with their shares, and pinned; it travels alone."""
    found = [sent(route, f"run {number}") for number in range(40)]
    for order in found:
        first = order.assignment.draw < 7000
        assert (order.version, order.assignment.weight) == (("1.0.0", 7000) if first else ("2.0.0", 3000))
        assert (order.assignment.reason, order.group) == ("override", None)
    assert len({order.version for order in found}) == 2


def test_a_step_without_such_a_word_is_left_to_the_mesh() -> None:
    """What it sticks to is no way of its own."""
    for route in ({}, {"sticky": "ada"}):
        order = sent(route)
        assert (order.version, order.assignment.reason) == (None, "")
        assert not {RETRIES, LIMIT} & set(headers(order))


def test_the_mesh_is_told_of_tries_and_their_limit() -> None:
    """Further tries after the first; one try is a word too, where the target says more."""
    told = headers(sent({"tries": 3, "try_timeout": "1s500ms"}))
    assert (told[RETRIES], told[LIMIT]) == ("2", "1500")
    assert headers(sent({"tries": 1}))[RETRIES] == "0"
    assert RETRIES not in headers(sent({"fallback": []}))


def test_tries_are_paid_for_by_the_version() -> None:
    """The step's own number, and a single one once there is nothing to pay with."""
    budget = RetryBudgets(mesh(), lambda: 0.0)
    orders = [budget.leaves(sent({"pin": "2.0.0", "tries": 5})) for _ in range(3)]
    assert [headers(order)[RETRIES] for order in orders] == ["4", "4", "0"]


@pytest.mark.parametrize(
    ("route", "failing", "tried", "chain"),
    [
        ({"fallback": ["3.0.0", "9.0.0", "2.0.0"]}, "1.0.0", (), ("3.0.0", "2.0.0")),
        ({"fallback": []}, "1.0.0", (), ()),
        ({"tries": 2}, "1.0.0", (), ("2.0.0",)),
        ({"tries": 2}, "2.0.0", (), ()),
        ({"tries": 2}, "2.0.0", ("1.0.0",), ("2.0.0",)),
        ({"tries": 2, "versions": {"1.0.0": 10_000}}, "1.0.0", (), ()),
        ({"tries": 2, "pin": "1.0.0"}, "1.0.0", (), ()),
        ({"fallback": ["2.0.0"], "pin": "1.0.0"}, "1.0.0", (), ("2.0.0",)),
        ({"sticky": "ada"}, "1.0.0", (), ()),
    ],
)
def test_who_comes_next(
    route: dict[str, Any], failing: str, tried: tuple[str, ...], chain: tuple[str, ...]
) -> None:
    """The step's own fallback, as far as it is registered; else that of the target it was given to first."""
    run = Walk(flow_of(node("a", route=route))).state.steps["a"]
    run.tried = tried
    assert abilities_of(mesh(), run, failing).chain == chain


def test_what_the_step_says_is_told_with_its_attempts() -> None:
    """In the words of the flow; a pin is the reason of its attempts."""

    def told(**route: Any) -> list[str]:
        return own_way(flow_of(node("a", route=route)).steps["a"].route)

    assert own_way(None) == told(sticky="ada") == told(pin="1.0.0") == []
    everything = told(versions={"1.0.0": 10_000}, fallback=["2.0.0", "3.0.0"], tries=2, try_timeout="1.5s")
    assert everything == ["versions", "fallback 2.0.0, 3.0.0", "tries 2", "try_timeout 1s500ms"]
    assert told(fallback=[]) == ["fallback none"]


def test_a_replay_draws_nothing_and_hands_over_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal names the next version; a fold of it reads neither routes nor chains."""
    flow = flow_of(node("a", route={"fallback": ["2.0.0"]}))
    walk = Walk(flow, {"a": [replace(failed("UNAVAILABLE"), chosen="1.0.0"), done()]})
    walk.abilities = replace(walk.abilities, chain=("2.0.0",))
    walk.run()
    monkeypatch.setattr(draws, "draw", None)
    monkeypatch.setattr(dispatch, "draw", None)
    for length in range(1, len(walk.journal)):
        state = fold(RUN, flow, walk.journal[:length])
        assert state.steps["a"].finished == walk.state.steps["a"].finished[: len(state.steps["a"].finished)]
    found = decide(fold(RUN, flow, walk.journal[:-2]), walk.now)
    assert isinstance(found, dispatch.StartAttempt)
    assert (found.version, found.fallback, found.input) == ("2.0.0", True, Json.of({}))
