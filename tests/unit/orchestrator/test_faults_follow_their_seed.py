"""Faults of test runs: how rules are read, which attempts they hit, what of them goes on to other runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.errors import InvalidArgument, Refused
from reflux.core.faultrules import parse
from reflux.core.faults import FaultKind, FaultPlan, headers
from reflux.core.flow import compile_flow
from reflux.core.names import FlowId, RunId, StepPath
from reflux.core.reasons import Reason
from reflux.orchestrator import codec
from reflux.orchestrator.caller import Order
from reflux.orchestrator.faulting import NO_FAULTS, FaultDesk, marked, under_faults

if TYPE_CHECKING:
    from reflux.orchestrator.mesh_view import MeshView

CHARGE = StepPath("charge")
SPEC = {
    "steps": [
        {"id": "charge", "node": "payment.charge", "with": {}},
        {
            "id": "lines",
            "foreach": {"in": "{{ input }}", "as": "line"},
            "steps": [{"id": "price", "node": "shop.price"}],
        },
        {"id": "done", "return": 1},
    ]
}
ABORT = "step=charge,version=1.0.0,abort=UNAVAILABLE,percent=50"


def flow() -> Any:
    """A flow with a step that calls a node, one of a loop, and one that calls none."""
    return compile_flow({"name": "shop", "spec": SPEC}).flow


def desk(*, allowed: bool = True) -> FaultDesk:
    """Knows two versions of one node."""
    mesh = SimpleNamespace(versions=lambda node: {"1.0.0": 1, "2.0.0": 2} if node == "payment.charge" else {})
    return FaultDesk(cast("MeshView", mesh), allowed=allowed)


def created(plan: FaultPlan | None) -> ev.RunCreated:
    """A run with these faults."""
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    return ev.RunCreated(FlowId("f"), "shop", 1, Json(b"{}"), "me", noon, faults=plan)


@pytest.mark.parametrize(
    "text",
    [
        ABORT,
        "step=price,delay=2000ms",
        "step=charge,drop=reply,percent=1",
        "step=charge,version=anthropic-claude,abort=RESOURCE_EXHAUSTED",
    ],
)
def test_a_rule_is_shown_as_it_is_written(text: str) -> None:
    """What was asked for can be asked for again."""
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "KEY=VALUE"),
        ("charge", "KEY=VALUE"),
        ("stop=charge,drop=reply", "stop=charge"),
        ("step=charge,step=other,drop=reply", "twice"),
        ("step=charge", "one of abort, delay and drop"),
        ("abort=UNAVAILABLE", "step"),
        ("step=charge,abort=UNAVAILABLE,delay=1s", "one of"),
        ("step=charge,abort=OK", "UNAVAILABLE"),
        ("step=charge,abort=14", "UNAVAILABLE"),
        ("step=charge,drop=request", "drop=reply"),
        ("step=charge,delay=soon", "delay"),
        ("step=charge,delay=61s", "60000"),
        ("step=charge,drop=reply,percent=0", "1 to 100"),
        ("step=charge,drop=reply,percent=101", "1 to 100"),
        ("step=charge,drop=reply,percent=½", "1 to 100"),
        ("step=charge,version=A B,drop=reply", "version"),
        ("step=chrage,drop=reply", "there are: charge, price"),
        ("step=done,drop=reply", "there are: charge, price"),
        ("step=charge,version=9.9.9,drop=reply", "registered: 1.0.0, 2.0.0"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_its_place(text: str, word: str) -> None:
    """Unknown steps, versions, codes and keys, and numbers out of range; nothing is guessed."""
    with pytest.raises(InvalidArgument) as refused:
        desk().judge(flow(), test=True, rules=[ABORT, text], seed="")
    assert word in str(refused.value)
    assert [violation.pointer for violation in refused.value.violations] == ["faults[1]"]


def test_a_stack_without_faults_refuses_them_and_names_the_setting() -> None:
    """It still takes runs that are marked as tests."""
    with pytest.raises(Refused) as refused:
        desk(allowed=False).judge(flow(), test=True, rules=[ABORT], seed="")
    assert refused.value.reason is Reason.FAULTS_NOT_ALLOWED
    assert refused.value.metadata == {"setting": "faults"}
    assert desk(allowed=False).judge(flow(), test=True, rules=[], seed="") == NO_FAULTS


def test_faults_are_for_runs_that_say_they_are_tests() -> None:
    """A production run never has any."""
    for rules, seed in (([ABORT], ""), ([], "seed")):
        with pytest.raises(InvalidArgument, match="test=true"):
            desk().judge(flow(), test=False, rules=rules, seed=seed)
    assert desk().judge(flow(), test=False, rules=[], seed="") is None


def test_what_a_run_may_have_is_bounded() -> None:
    """32 rules, a seed of 200 characters."""
    desk().judge(flow(), test=True, rules=[ABORT] * 32, seed="s" * 200)
    for rules, seed in (([ABORT] * 33, ""), ([], "s" * 201)):
        with pytest.raises(InvalidArgument, match="at most"):
            desk().judge(flow(), test=True, rules=rules, seed=seed)


def hit(plan: FaultPlan, run_id: str) -> list[bool]:
    """Which of 400 attempts meet a fault."""
    return [bool(plan.of(run_id, CHARGE, attempt)) for attempt in range(1, 401)]


def test_the_same_seed_gives_the_same_faults() -> None:
    """In whichever run; without a seed it is the run's id, and about as many are hit as were asked for."""
    rules = (parse(ABORT),)
    seeded = FaultPlan(rules, "monday")
    assert hit(seeded, "a") == hit(seeded, "b")
    assert hit(seeded, "a") != hit(FaultPlan(rules, "tuesday"), "a")
    plain = FaultPlan(rules)
    assert hit(plain, "a") == hit(plain, "a")
    assert hit(plain, "a") != hit(plain, "b")
    assert 150 < sum(hit(plain, "a")) < 250
    assert all(hit(FaultPlan((parse("step=charge,drop=reply"),)), "a"))


def test_a_rule_of_a_loop_holds_for_its_iterations_and_for_no_other_step() -> None:
    """What undoes a step is another call."""
    plan = FaultPlan((parse("step=price,drop=reply"),))
    assert plan.of("a", StepPath("lines[0]/price"), 1)
    assert plan.of("a", StepPath("lines[17]/price"), 2)
    assert not plan.of("a", StepPath("lines[0]/other"), 1)
    assert not plan.of("a", StepPath("lines[0]/price~compensate"), 1)


def test_the_mesh_hears_what_shall_fail_and_nothing_without_it() -> None:
    """One header for each kind and version, and one that says that it is there."""
    plan = FaultPlan((parse("step=charge,version=1.0.0,abort=UNAVAILABLE"), parse("step=charge,delay=20ms")))
    assert dict(headers(plan.of("a", CHARGE, 1))) == {
        "x-reflux-fault": "1",
        "x-reflux-fault-abort-1.0.0": "14",
        "x-reflux-fault-delay": "20",
    }
    assert headers(plan.of("a", StepPath("other"), 1)) == ()


def test_the_first_rule_that_is_drawn_counts() -> None:
    """Of those that would do the same to the same version."""
    plan = FaultPlan((parse("step=charge,abort=ABORTED"), parse("step=charge,abort=INTERNAL")))
    (met,) = plan.of("a", CHARGE, 1)
    assert (met.kind, met.code) == (FaultKind.ABORT, "ABORTED")


def test_a_journal_keeps_the_faults() -> None:
    """Also that a run is a test without any; and a journal from before holds no test."""
    for plan in (None, NO_FAULTS, FaultPlan((parse(ABORT), parse("step=charge,delay=1s")), "monday")):
        event = created(plan)
        assert codec.decode(codec.encode(event)) == event


def test_what_comes_of_a_test_is_a_test_without_its_faults() -> None:
    """A child, a retry, a fork, who hears of the failure; what comes of another run is none."""
    tested = created(FaultPlan((parse(ABORT),)))
    plain = replace(tested, faults=None)
    assert marked(plain, tested).faults == NO_FAULTS
    assert marked(plain, plain).faults is None


def test_an_attempt_with_faults_is_alone_and_like_no_other() -> None:
    """No company, no cache, and no copy for a version in the shadow; one that is not hit has all of them."""
    usual = Order(
        run_id=RunId("r"),
        step=CHARGE,
        attempt=1,
        fencing_token=1,
        idempotency_key="k",
        node="payment.charge",
        version=None,
        input=Json(b"{}"),
        assignment=cast("Any", None),
        limit=timedelta(seconds=1),
        total_deadline=None,
        group=cast("Any", object()),
        cache=cast("Any", object()),
        shadow="3.0.0",
    )
    plan = FaultPlan((parse("step=charge,abort=UNAVAILABLE"),), "s")
    hit_one = under_faults(cast("Any", SimpleNamespace(id="r", created=created(plan))), usual)
    other = under_faults(
        cast("Any", SimpleNamespace(id="r", created=created(plan))), replace(usual, step=StepPath("x"))
    )
    assert (hit_one.group, hit_one.cache, hit_one.shadow) == (None, None, None)
    assert hit_one.faults == headers(plan.of(RunId("r"), CHARGE, 1))
    assert (other.group, other.cache, other.shadow, other.faults) == (usual.group, usual.cache, "3.0.0", ())
