"""What is told of a run: spans made from its journal, each below the one that holds it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import Knowledge
from reflux.core.resolving import Abilities, Answer
from reflux.core.trace import question_context, span_id, trace_id
from reflux.orchestrator.store.errors import ShardLost
from reflux.orchestrator.tracing import Tracer, spans_of
from reflux.runtime.collector import Collector, Endpoint
from reflux.runtime.trace_export import exporting
from reflux.runtime.traces import Span, SpanKind, nanoseconds
from tests.support.otlp import running_receiver
from tests.support.walk import RUN, START, Walk, ambiguous, done, failed, flow_of, never, node

FETCH = node("fetch")


def told(walk: Walk) -> dict[str, Span]:
    """Every span of a walk by name; `step/attempt 1` for an attempt."""
    spans = list(spans_of(walk.state, walk.journal))
    assert len({span.context.span_id for span in spans}) == len(spans), "a span was told twice"
    return {name_of(span): span for span in spans}


def name_of(span: Span) -> str:
    step = span.attributes.get("reflux.step")
    return f"{step}/{span.name}" if span.name.startswith("attempt") else span.name


def parents(spans: dict[str, Span]) -> dict[str, str]:
    """The name of each span's parent; of a root, nothing."""
    names = {span.context.span_id: name for name, span in spans.items()}
    return {name: names[span.parent_id] if span.parent_id else "" for name, span in spans.items()}


def seconds(span: Span) -> tuple[float, float]:
    """When it began and ended, since the walk did."""
    begin = nanoseconds(START)
    return (span.start_ns - begin) / 1e9, (span.end_ns - begin) / 1e9


def cancel(walk: Walk) -> Walk:
    return walk.tell(ev.CancelRequested("me", "enough", walk.now)).run()


def test_a_run_is_a_tree_of_its_steps_and_their_attempts():
    """Containers hold their steps; attempts are calls, everything else is our own."""
    branches = {"left": [node("l")], "right": [node("r"), {"id": "s", "set": {"a": 1}}]}
    flow = flow_of(FETCH, {"id": "both", "parallel": {"branches": branches}}, {"id": "end", "return": 1})
    spans = told(Walk(flow).run())
    assert parents(spans) == {
        "run walked": "",
        "step fetch": "run walked",
        "fetch/attempt 1": "step fetch",
        "step both": "run walked",
        "step l": "step both",
        "l/attempt 1": "step l",
        "step r": "step both",
        "r/attempt 1": "step r",
        "step s": "step both",
        "step end": "run walked",
    }
    assert {name for name, span in spans.items() if span.kind is SpanKind.CLIENT} == {
        "fetch/attempt 1",
        "l/attempt 1",
        "r/attempt 1",
    }
    assert {span.context.trace_id for span in spans.values()} == {trace_id(RUN)}
    assert all(span.error is None for span in spans.values())


def test_the_ids_are_the_derived_ones():
    """So what an attempt has sent on as its span is what is told of it."""
    spans = told(Walk(flow_of(FETCH)).run())
    assert spans["run walked"].context.span_id == span_id(RUN)
    assert spans["step fetch"].context.span_id == span_id(RUN, "fetch")
    assert spans["fetch/attempt 1"].context.span_id == span_id(RUN, "fetch", 1)


def test_each_retry_is_an_attempt_of_its_own_and_the_wait_is_told():
    """The failed one says why and until when; the step, which succeeded, is no failure."""
    retry = {"attempts": 2, "delay": "3s", "on": ["UNAVAILABLE"]}
    walk = Walk(
        flow_of(node("fetch", retry=retry)),
        {"fetch": [replace(failed("UNAVAILABLE"), after=1.0), replace(done(), after=1.0)]},
    ).run()
    spans = told(walk)
    first, second = spans["fetch/attempt 1"], spans["fetch/attempt 2"]
    [wait] = first.events
    pause = float(wait.attributes["reflux.retry.after_seconds"])
    assert wait.name == "retry"
    assert (first.error, second.error) == ("UNAVAILABLE NODE_FAULT", None)
    assert first.attributes["error.type"] == "NODE_FAULT"
    assert seconds(first) == (0, 1)
    assert seconds(second) == (1 + pause, 2 + pause)
    assert seconds(spans["step fetch"]) == (0, 2 + pause)
    assert spans["step fetch"].error is None
    assert parents(spans)["fetch/attempt 2"] == "step fetch"


def test_a_failure_goes_up_to_the_run_and_says_no_word_of_its_message():
    """Codes and reasons leave the platform; messages may quote what somebody sent."""
    secret = ev.Failure("INTERNAL", "NODE_FAULT", "card 4711 is not known", step="fetch")
    spans = told(Walk(flow_of(FETCH), {"fetch": [replace(failed("INTERNAL"), failure=secret)]}).run())
    assert [spans[name].error for name in ("fetch/attempt 1", "step fetch", "run walked")] == [
        "INTERNAL NODE_FAULT"
    ] * 3
    assert spans["run walked"].attributes["reflux.run.state"] == "FAILED"
    assert "4711" not in repr(spans)


def test_neither_input_nor_output_is_told():
    """Whatever went through a run stays in it."""
    walk = Walk(
        flow_of(
            node("fetch", **{"with": {"key": "{{ input.key }}"}}),
            {"id": "s", "set": {"key": "{{ input.key }}"}},
        ),
        {"fetch": [done({"answer": "hush"})]},
        input={"key": "hush"},
    ).run()
    assert walk.finished.state == "SUCCEEDED"
    assert "hush" not in repr(told(walk))


def test_a_superseded_attempt_has_a_span_beside_the_one_that_followed():
    """A takeover loses nothing of what had begun: the mesh's spans of both attempts have their parent."""
    walk = Walk(flow_of(FETCH), {"fetch": [never(), done()]}, effects={"fetch": EffectClass.AT_MOST_ONCE})
    heir = walk.run(until=1).crashed(after=10).run()
    before, after = told(walk), told(heir)
    assert before == {}
    assert parents(after) == {
        "run walked": "",
        "step fetch": "run walked",
        "fetch/attempt 1": "step fetch",
        "fetch/attempt 2": "step fetch",
    }
    assert after["fetch/attempt 1"].error == "ABORTED SUPERSEDED"
    assert after["fetch/attempt 1"].attributes["reflux.outcome"] == "NOT_SENT"


def test_a_pure_attempt_that_only_its_dead_owner_knew_is_told_under_the_same_id():
    """The heir sends it again under the same number, so both calls have the one parent."""
    walk = Walk(flow_of(FETCH), {"fetch": [never(), done()]}).run(until=0.1)
    heir = walk.crashed(after=10).run()
    assert [command.attempt for command in (*walk.started, *heir.started)] == [1, 1]
    assert set(told(heir)) == {"run walked", "step fetch", "fetch/attempt 1"}


@pytest.mark.parametrize("after", [0.1, 1.0], ids=["unknown to the journal", "journaled"])
def test_what_a_cancel_cut_off_is_told(after):
    """The attempt in flight and its step end when they were cancelled, and the run says that it was."""
    walk = cancel(Walk(flow_of(FETCH, node("later", needs=["fetch"])), {"fetch": [never()]}).run(until=after))
    spans = told(walk)
    assert parents(spans) == {
        "run walked": "",
        "step fetch": "run walked",
        "fetch/attempt 1": "step fetch",
    }, "what never began has no span"
    assert seconds(spans["fetch/attempt 1"]) == (0, after)
    assert spans["fetch/attempt 1"].attributes["reflux.canceled"] is True
    assert spans["step fetch"].attributes["reflux.step.state"] == "CANCELED"
    assert spans["run walked"].attributes["reflux.run.state"] == "CANCELED"
    assert [event.name for event in spans["run walked"].events] == ["cancel requested"]


def test_a_container_that_fails_tells_of_everything_that_had_begun_in_it():
    """The sibling cut off, its container inside, the one that failed: each once."""
    inner = {"id": "inner", "parallel": {"branches": {"x": [node("slow")]}}}
    outer = {"id": "outer", "parallel": {"branches": {"bad": [node("bad")], "good": [inner]}}}
    answers = {"slow": [never()], "bad": [replace(failed("INTERNAL"), after=1.0)]}
    spans = told(Walk(flow_of(outer), answers).run())
    assert parents(spans) == {
        "run walked": "",
        "step outer": "run walked",
        "step bad": "step outer",
        "bad/attempt 1": "step bad",
        "step inner": "step outer",
        "step slow": "step inner",
        "slow/attempt 1": "step slow",
    }
    assert {name for name, span in spans.items() if span.error} == {
        "run walked",
        "step outer",
        "step bad",
        "bad/attempt 1",
    }


def test_an_effect_that_nobody_knows_is_told_when_a_cancel_ends_the_run():
    """The parked step has a span, and its attempt says who had claimed."""
    walk = Walk(flow_of(FETCH), {"fetch": [never("pay@1")]}, effects={"fetch": EffectClass.AT_MOST_ONCE})
    heir = walk.run(until=1).crashed(after=10).run()
    assert set(told(heir)) == {"fetch/attempt 1"}
    spans = told(cancel(heir))
    assert spans["fetch/attempt 1"].attributes["reflux.claimed_by"] == "pay@1"
    assert spans["step fetch"].attributes["reflux.step.state"] == "PARKED"
    assert spans["step fetch"].error == "UNKNOWN EFFECT_AMBIGUOUS"
    assert spans["run walked"].attributes["reflux.unresolved_effects"] == 1


def test_what_was_skipped_is_a_moment_of_what_is_around_it():
    """It took no time, and the reader wants to know that it was not forgotten."""
    spans = told(Walk(flow_of(node("no", when="{{ false }}"), node("yes"))).run())
    assert "step no" not in spans
    [skipped] = spans["run walked"].events
    assert (skipped.name, skipped.attributes) == (
        "step skipped",
        {"reflux.step": "no", "reflux.skip_reason": "when"},
    )


def test_a_step_that_fails_before_it_calls_anybody_has_a_span():
    """An expression that cannot be evaluated fails the step at once."""
    spans = told(Walk(flow_of(node("fetch", **{"with": {"a": "{{ 1 / 0 }}"}}))).run())
    assert set(spans) == {"run walked", "step fetch"}
    assert spans["step fetch"].error == "INVALID_ARGUMENT EXPRESSION_FAILED"


def test_the_request_that_started_the_run_is_a_link():
    """Not a parent: the run's trace is its own."""
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    walk = Walk(flow_of(FETCH))
    walk.state.created = replace(walk.state.created, traceparent=caller)
    root = told(walk.run())["run walked"]
    assert [str(link) for link in root.links] == [caller]
    assert root.parent_id == b""


def test_nothing_depends_on_how_the_events_were_committed():
    """One commit or one for each event until the last moment: the same spans, each once."""
    inner = {"id": "inner", "parallel": {"branches": {"x": [node("slow")]}}}
    outer = {"id": "outer", "parallel": {"branches": {"bad": [node("bad")], "good": [inner, node("l")]}}}
    answers = {"slow": [never()], "bad": [replace(failed("INTERNAL"), after=1.0)]}
    walk = Walk(flow_of(FETCH, outer), answers).run()
    last = next(index for index, event in enumerate(walk.journal) if _time(event) >= walk.finished.time)
    commits = [*([event] for event in walk.journal[:last]), walk.journal[last:]]
    single = [span for commit in commits for span in spans_of(walk.state, commit)]
    assert sorted(map(repr, single)) == sorted(map(repr, told(walk).values()))
    assert len(single) == 9


def _time(event: ev.Event):
    return event.finish_time if isinstance(event, ev.AttemptFinished) else event.time


async def test_nothing_is_told_of_what_was_not_committed():
    """What a lost orchestrator believes has not happened; the same events, once committed, are told."""
    walk = Walk(flow_of(FETCH)).run()
    loop = asyncio.get_running_loop()
    lost, dropped, kept = loop.create_future(), loop.create_future(), loop.create_future()
    lost.set_exception(ShardLost(1))
    dropped.cancel()
    kept.set_result(None)
    with running_receiver() as receiver:
        async with exporting(Collector(Endpoint.parse(receiver.endpoint))) as exporter:
            assert exporter is not None
            tracer = Tracer(exporter, ratio=1.0, instance="here:1")
            tracer.committed(walk.state, walk.journal, lost)
            tracer.committed(walk.state, walk.journal, dropped)
        assert receiver.requests == 0
        async with exporting(Collector(Endpoint.parse(receiver.endpoint))) as exporter:
            assert exporter is not None
            Tracer(exporter, ratio=1.0, instance="here:1").committed(walk.state, walk.journal, kept)
        assert {span.name for span in receiver.spans} == {"run walked", "step fetch", "attempt 1"}
        assert {span.resource["service.instance.id"] for span in receiver.spans} == {"here:1"}


def test_times_are_exact():
    """To the microsecond, since 1970."""
    assert nanoseconds(START + timedelta(microseconds=1)) - nanoseconds(START) == 1_000
    assert nanoseconds(START) == int(START.timestamp()) * 10**9


def test_a_question_is_a_span_below_the_attempt_that_it_is_about():
    """Asked in vain, unanswered, found: three calls, and the step is over with the last of them."""
    walk = Walk(
        flow_of(node("a")),
        {"a": [ambiguous("pay@stripe")] * 3},
        effects={"a": EffectClass.IDEMPOTENT},
        abilities=Abilities(verifiable=True),
        questions=[
            Answer(Knowledge.UNKNOWN, "not listed"),
            Answer(Knowledge.UNKNOWN, "UNAVAILABLE", answered=False),
            Answer(Knowledge.FOUND, "listed", output=Json.of({"id": "secret"})),
        ],
    ).run()
    spans = told(walk)
    questions = [spans[f"verify {number}"] for number in (1, 2, 3)]
    assert {each.parent_id for each in questions} == {span_id(RUN, "a", 3)}
    assert {each.kind for each in questions} == {SpanKind.CLIENT}
    assert [each.attributes["reflux.knowledge"] for each in questions] == ["UNKNOWN", "UNKNOWN", "FOUND"]
    assert [each.error for each in questions] == [None, "no answer", None]
    assert [seconds(each)[0] for each in questions] == [4.0, 5.0, 7.0]
    assert questions[0].attributes["reflux.node.version"] == "pay@stripe"
    assert questions[0].context == question_context(RUN, "a", 3, "verify", 1)
    assert seconds(spans["step a"])[1] == 7.0
    assert "secret" not in repr(spans)
    assert "listed" not in repr(spans)
