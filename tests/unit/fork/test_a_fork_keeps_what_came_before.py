"""A fork does the step it goes on from, and what comes after it; every other outcome stands."""

from __future__ import annotations

import pytest

from reflux.core.effect import EffectClass
from reflux.core.errors import NotFound, Refused
from reflux.core.fork import Why, plan_fork
from reflux.core.names import StepPath
from tests.support.walk import Walk, ambiguous, done, failed, flow_of, never, node
from tests.unit.fork.forks import calls, forked, retried

STEPS = (node("a"), node("b", **{"with": {"n": "{{ steps.a.output.n }}"}}), node("c"))


def test_steps_before_are_not_done_again():
    """Their outcomes are read as if they had happened here."""
    flow = flow_of(*STEPS)
    origin = Walk(flow, {"a": [done({"n": 7})]}).run()
    fork = forked(origin, "b")
    assert calls(fork) == ["b", "c"]
    assert fork.started[0].input.value == {"n": 7}
    assert fork.trace == [
        "a SUCCEEDED",
        "start b 1",
        "b DONE SUCCEEDED",
        "start c 1",
        "c DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_what_expressions_see_of_a_kept_step_is_what_it_was():
    """Attempts and version are those of the origin, in a fork of a fork too."""
    flow = flow_of(
        node("a", retry={"attempts": 2, "delay": "1s"}),
        {"id": "seen", "set": {"n": "{{ steps.a.attempts }}", "v": "{{ steps.a.version }}"}},
        node("end"),
    )
    classes = {"a": EffectClass.IDEMPOTENT}
    origin = Walk(flow, {"a": [failed("UNAVAILABLE"), done(claimed_by="x@3")]}, effects=classes).run()
    fork = forked(forked(origin, "end"), "seen")
    assert fork.output("seen") == {"n": 2, "v": "3"}
    assert {kept.run_id for kept in plan_fork(fork.state, flow, StepPath("end")).kept} == {fork.state.id}


def test_only_what_waits_for_the_step_comes_after_it():
    """Steps beside it keep their outcomes; the step that waits for both is done anew."""
    flow = flow_of(
        node("l", needs=[]), node("r", needs=[]), node("r2", needs=["r"]), node("both", needs=["l", "r2"])
    )
    origin = Walk(flow).run()
    assert calls(forked(origin, "l")) == ["l", "both"]
    assert calls(forked(origin, "r")) == ["r", "r2", "both"]


def test_a_fork_into_an_iteration_does_only_that_one_again():
    """The loop is entered anew, and takes over every other iteration."""
    flow = flow_of(
        {
            "id": "lines",
            "foreach": {"in": "{{ input }}", "as": "item", "parallel": 3},
            "steps": [
                node("price", **{"with": {"i": "{{ item }}"}}),
                node("book", **{"with": {"p": "{{ steps.price.output.p }}"}}),
            ],
        },
        node("end"),
    )
    origin = Walk(flow, lambda command: done({"p": str(command.step)}), ["x", "y", "z"]).run()
    fork = forked(origin, "lines[1]/price", lambda command: done({"new": str(command.step), "p": 0}))
    assert calls(fork) == ["lines[1]/price", "lines[1]/book", "end"]
    assert fork.output("lines") == [
        {"p": "lines[0]/book"},
        {"new": "lines[1]/book", "p": 0},
        {"p": "lines[2]/book"},
    ]


def test_an_outcome_stands_for_its_item_alone():
    """Another input gives the loop other items: what was done for the former ones is not taken for these."""
    loop = {"in": "{{ input }}", "as": "item"}
    flow = flow_of({"id": "lines", "foreach": loop, "steps": [node("price"), node("book")]})
    origin = Walk(flow, {}, ["x", "y", "z"]).run()
    assert calls(forked(origin, "lines[2]/book", given=["x", "other", "z"])) == [
        "lines[1]/price",
        "lines[1]/book",
        "lines[2]/book",
    ]


def test_a_container_before_is_kept_with_what_is_read_of_it():
    """It is not entered, and steps of the branch that was taken can be read."""
    flow = flow_of(
        {
            "id": "risk",
            "if": {"when": "{{ input.high }}", "then": [node("ask"), node("note")], "else": [node("plain")]},
        },
        node("end", **{"with": {"was": "{{ steps.ask.?output.?n ?? 0 }}"}}),
    )
    origin = Walk(flow, {"ask": [done({"n": 5})]}, {"high": True}).run()
    fork = forked(origin, "end")
    assert calls(fork) == ["end"]
    assert fork.started[0].input.value == {"was": 5}
    assert fork.states("ask", "note", "plain") == {
        "ask": "SUCCEEDED",
        "note": "SUCCEEDED",
        "plain": "SKIPPED",
    }
    assert calls(forked(fork, "note")) == ["note", "end"]


def test_a_handler_is_taken_up_where_it_was():
    """The failure that it had caught stands, after all that its list had done before."""
    flow = flow_of(
        {
            "id": "t",
            "try": {
                "steps": [node("bad", needs=[]), node("good", needs=[]), node("never", needs=["bad"])],
                "catch": [{"steps": [node("undo"), node("tell", **{"with": {"c": "{{ error.code }}"}})]}],
                "finally": [node("close")],
            },
        },
        node("end"),
    )
    origin = Walk(flow, {"bad": [failed("ABORTED", after=1.0)]}).run()
    fork = forked(origin, "tell")
    assert calls(fork) == ["tell", "close", "end"]
    assert fork.started[0].input.value == {"c": "ABORTED"}
    assert fork.states("good", "bad", "never") == {"good": "SUCCEEDED", "bad": "FAILED", "never": "CANCELED"}
    assert calls(forked(origin, "bad")) == ["bad", "never", "close", "end"]
    assert calls(forked(origin, "close")) == ["close", "end"]


def test_later_iterations_of_a_while_come_after():
    """Each may rest on the one before."""
    flow = flow_of(
        {
            "id": "pages",
            "while": {"when": "{{ index < 3 }}", "max": 5, "steps": [node("get"), node("put")]},
        }
    )
    origin = Walk(flow).run()
    assert calls(forked(origin, "pages[1]/put")) == ["pages[1]/put", "pages[2]/get", "pages[2]/put"]


def test_another_version_takes_over_what_it_still_has():
    """New steps are done, removed ones are gone, moved ones are done anew."""
    old = flow_of(node("a"), node("gone"), node("m"), node("end"))
    new = flow_of(
        node("a"),
        node("new"),
        {"id": "box", "if": {"when": "{{ true }}", "then": [node("m")], "else": []}},
        node("end"),
    )
    origin = Walk(old).run()
    fork = forked(origin, "end", flow=new)
    assert calls(fork) == ["new", "m", "end"]
    plan = plan_fork(origin.state, new, StepPath("end"))
    assert [(one.step, one.why) for one in plan.anew] == [
        ("gone", Why.MOVED),
        ("m", Why.MOVED),
        ("end", Why.FROM),
    ]


def test_a_failure_that_was_let_pass_stands():
    """`on_error: continue` had dealt with it."""
    flow = flow_of(node("a", on_error="continue"), node("b"))
    origin = Walk(flow, {"a": [failed()]}).run()
    fork = forked(origin, "b")
    assert calls(fork) == ["b"]
    assert fork.states() == {"a": "FAILED", "b": "SUCCEEDED"}


def test_from_a_step_that_never_ran_nothing_goes_on():
    """Skipped, pending, or in a branch that was not taken."""
    flow = flow_of(
        node("a"),
        node("skipped", when="{{ false }}"),
        {"id": "i", "if": {"when": "{{ true }}", "then": [node("t")], "else": [node("e")]}},
        node("bad"),
        node("later"),
    )
    origin = Walk(flow, {"bad": [failed()]}).run()
    for step in ("skipped", "e", "later"):
        with pytest.raises(Refused, match=f"{step} .* never ran") as refused:
            plan_fork(origin.state, flow, StepPath(step))
        assert refused.value.reason == "STEP_NEVER_RAN"


def test_an_unknown_step_is_told_with_the_nearest_name():
    """Here and in the version to go on with."""
    flow = flow_of(node("charge"))
    origin = Walk(flow).run()
    with pytest.raises(NotFound, match="did you mean charge"):
        plan_fork(origin.state, flow, StepPath("chrage"))
    with pytest.raises(NotFound, match="did you mean charged") as unknown:
        plan_fork(origin.state, flow_of(node("charged")), StepPath("charge"))
    assert unknown.value.reason == "STEP_NOT_FOUND"


def test_an_effect_that_nobody_knows_is_never_kept():
    """Beside the fork it forbids it; from it, or after it, the person who asks knows what may be repeated."""
    flow = flow_of(node("pay", needs=[]), node("mail", needs=[]), node("end", needs=["pay", "mail"]))
    classes = {"pay": EffectClass.AT_MOST_ONCE}
    origin = Walk(flow, {"pay": [ambiguous("x@1")]}, effects=classes).run()
    with pytest.raises(Refused, match="step pay") as refused:
        plan_fork(origin.state, flow, StepPath("mail"))
    assert refused.value.reason == "STEP_UNRESOLVED"
    assert refused.value.metadata["step"] == "pay"
    plan = plan_fork(origin.state, flow, StepPath("pay"))
    assert [(one.step, one.acted) for one in plan.anew] == [("pay", True)]


def test_what_is_being_done_is_not_forked_over():
    """Nobody knows yet how it ends; what comes after the fork does not matter."""
    flow = flow_of(node("slow", needs=[]), node("a", needs=[]), node("b", needs=["a"]))
    origin = Walk(flow, {"slow": [never()]}).run(until=1)
    with pytest.raises(Refused) as refused:
        plan_fork(origin.state, flow, StepPath("b"))
    assert refused.value.reason == "STEP_UNSETTLED"


def test_what_was_kept_is_not_undone_by_the_new_run():
    """The origin ended well by it; the fork that fails undoes what it did itself, and nothing else."""
    undo = {"compensate": {"node": "undo", "with": {}}}
    flow = flow_of(node("charge", **undo), node("book", **undo), node("tell"))
    origin = Walk(flow, {}).run()
    fork = forked(origin, "book", {"tell": [failed()]})
    assert calls(fork) == ["book", "tell", "book~compensate"]
    assert fork.finished.state == "FAILED"
    assert fork.finished.uncompensated == ()


def test_a_kept_failure_is_caught_by_what_it_was():
    """Handlers that ask for the outcome of its last attempt are entered again, in a retry of a retry too."""
    handler = {"when": "{{ error.outcome == 'NO_EFFECT' }}", "steps": [node("h")]}
    flow = flow_of({"id": "t", "try": {"steps": [node("a")], "catch": [handler]}})
    origin = Walk(flow, {"a": [failed()], "h": [failed()]}).run()
    assert calls(origin) == ["a", "h"]
    again = retried(origin, {"h": [failed()]})
    assert calls(again) == ["h"]
    assert calls(retried(again)) == ["h"]


def test_a_failure_inside_of_a_kept_loop_is_caught_by_what_it_was():
    """Its iteration is left behind, and what became of its attempts is not."""
    retry = {"attempts": 2, "delay": "1s"}
    loop = {"id": "lines", "foreach": {"in": [1, 2], "as": "n"}, "steps": [node("a", retry=retry)]}
    said = {"o": "{{ error.outcome }}", "n": "{{ error.attempts }}", "s": "{{ error.step }}"}
    flow = flow_of({"id": "t", "try": {"steps": [loop], "catch": [{"steps": [node("h", **{"with": said})]}]}})
    down = {"lines[0]/a": [failed("UNAVAILABLE"), failed("UNAVAILABLE")]}
    walk = Walk(flow, {**down, "h": [failed()]}, effects={"a": EffectClass.IDEMPOTENT}).run()
    seen = walk.started[-1].input.value
    assert seen == {"o": "NO_EFFECT", "n": 2, "s": "lines[0]/a"}
    for _ in range(2):
        walk = retried(walk, {"h": [failed()]})
        assert [(each.step, each.input.value) for each in walk.started] == [("h", seen)]


def test_the_outcome_of_a_kept_failure_can_be_read():
    """As that of any failure that was let pass."""
    flow = flow_of(node("a", on_error="continue"), {"id": "o", "set": {"o": "{{ steps.a.error.outcome }}"}})
    origin = Walk(flow, {"a": [failed()]}).run()
    assert forked(origin, "o").output("o") == origin.output("o") == {"o": "NO_EFFECT"}


def in_box(*steps, **more):
    """A container that is always entered, with these steps inside."""
    return {"id": "box", "if": {"when": "{{ true }}", "then": list(steps)}, **more}


def test_a_container_in_which_other_steps_stand_is_entered_again():
    """What moved in or out of it is done in its new place; what stayed is kept."""
    read = {"with": {"n": "{{ steps.a.?output.?n ?? 'LOST' }}"}}
    outside = flow_of(node("a"), in_box(node("b")), node("z", **read))
    inside = flow_of(in_box(node("a"), node("b")), node("z", **read))
    answers = {"a": [done({"n": 1})]}
    for old, new, kept in (
        (outside, inside, ["b"]),
        (inside, outside, ["b"]),
        (inside, inside, ["box", "a", "b"]),
    ):
        origin = Walk(old, answers).run()
        assert [each.step for each in plan_fork(origin.state, new, StepPath("z")).kept] == kept
        fork = forked(origin, "z", answers, flow=new)
        assert calls(fork) == [*(["a"] if old is not new else []), "z"]
        assert fork.started[-1].input.value == {"n": 1}


def test_a_new_step_inside_of_a_container_is_done():
    """As one outside is. Of a loop that was kept itself no more is known: its effects are not repeated."""
    loop = {"id": "lines", "foreach": {"in": [1, 2], "as": "n"}}
    old = flow_of(in_box(node("b")), {**loop, "steps": [node("pay")]}, node("z"))
    new = flow_of(in_box(node("b"), node("c")), {**loop, "steps": [node("pay"), node("tell")]}, node("z"))
    origin = Walk(old).run()
    assert calls(forked(origin, "z", flow=new)) == ["c", "lines[0]/tell", "lines[1]/tell", "z"]
    assert calls(forked(forked(origin, "z"), "z", flow=new)) == ["c", "z"]
    skipped = Walk(flow_of(in_box(node("b"), when="{{ false }}"), node("z"))).run()
    assert calls(forked(skipped, "z", flow=flow_of(in_box(node("c"), when="{{ true }}"), node("z")))) == ["z"]
