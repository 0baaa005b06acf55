"""Steps without `needs` follow each other in the order of their list; steps with `needs` follow those."""

from __future__ import annotations

from reflux.core import event as ev
from reflux.core.command import Record, StartAttempt
from reflux.core.document import Json
from reflux.core.event import RunPhase
from reflux.core.run import begin
from reflux.core.walker import decide, next_wake
from tests.support.walk import RUN, START, Walk, created, done, flow_of, node


def test_a_list_is_walked_from_its_first_step_to_its_last():
    """Each step starts when the one before has settled; the run's output is the last step's."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [done(1, after=5)], "b": [done({"n": 2})]}).run()
    assert walk.timed == [
        (0, "start a 1"),
        (5, "a DONE SUCCEEDED"),
        (5, "start b 1"),
        (5, "b DONE SUCCEEDED"),
        (5, "run SUCCEEDED"),
    ]
    assert walk.finished == ev.RunFinished(RunPhase.SUCCEEDED, walk.now, output=Json(b'{"n":2}'))


def test_the_first_command_says_everything_about_the_call():
    """Number, generation, node, input; no version and no limits where the flow names none."""
    flow = flow_of(node("a", **{"with": {"to": "{{ input.name }}"}}))
    state = begin(RUN, flow, created(flow, {"name": "Ada"}))
    assert decide(state, START) == StartAttempt(
        step="a",
        attempt=1,
        generation=0,
        node="x",
        version=None,
        input=Json(b'{"to":"Ada"}'),
        attempt_timeout=None,
        total_deadline=None,
    )


def test_deciding_changes_nothing():
    """Asked twice about the same state, the walker says the same: only events move a run."""
    flow = flow_of({"id": "a", "set": {"n": 1}})
    state = begin(RUN, flow, created(flow))
    first = decide(state, START)
    assert isinstance(first, Record)
    assert decide(state, START) == first


def test_while_an_attempt_is_in_flight_there_is_nothing_to_do():
    """No command, and no timer either: only the answer moves the run."""
    walk = Walk(flow_of(node("a"), node("b")), {"a": [done(after=9)]}).run(until=1)
    assert walk.trace == ["start a 1"]
    assert decide(walk.state, walk.now) is None
    assert next_wake(walk.state) is None


def test_steps_that_need_nothing_start_at_once():
    """`needs: []` waits for nobody, wherever it stands in the list."""
    walk = Walk(flow_of(node("a"), node("b", needs=[]), node("c", needs=["a", "b"]))).run()
    assert walk.trace == [
        "start a 1",
        "start b 1",
        "a DONE SUCCEEDED",
        "b DONE SUCCEEDED",
        "start c 1",
        "c DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_a_slow_step_holds_up_only_what_depends_on_it():
    """Two chains side by side: the quick one is through before the slow one has begun its second step."""
    flow = flow_of(node("a1"), node("a2"), node("b1", needs=[]), node("b2"))
    walk = Walk(flow, {"a1": [done(after=9)]}).run()
    assert walk.timed == [
        (0, "start a1 1"),
        (0, "start b1 1"),
        (0, "b1 DONE SUCCEEDED"),
        (0, "start b2 1"),
        (0, "b2 DONE SUCCEEDED"),
        (9, "a1 DONE SUCCEEDED"),
        (9, "start a2 1"),
        (9, "a2 DONE SUCCEEDED"),
        (9, "run SUCCEEDED"),
    ]


def test_a_step_may_need_one_that_stands_later_in_the_list():
    """The order of needs is the order of the run."""
    walk = Walk(flow_of(node("a", needs=["b"]), node("b", needs=[]))).run()
    assert walk.trace == [
        "start b 1",
        "b DONE SUCCEEDED",
        "start a 1",
        "a DONE SUCCEEDED",
        "run SUCCEEDED",
    ]


def test_a_later_step_reads_what_an_earlier_one_gave():
    """Outputs, vars, the run and the flow are there for templates."""
    flow = flow_of(
        node("a"),
        {"id": "b", "set": {"n": "{{ steps.a.output.n * vars.k }}", "by": "{{ flow.name }} {{ run.id }}"}},
        vars={"k": 3},
    )
    walk = Walk(flow, {"a": [done({"n": 14})]}).run()
    assert walk.output("b") == {"n": 42, "by": f"walked {RUN}"}
