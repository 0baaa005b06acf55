"""The orchestrator's spans: run → step → attempt, made from what the journal says.

They are made when the events have been committed, never before: what is not committed has not happened, and
an orchestrator that has lost a run tells nothing of it. `spans_of` is a function of the state and the events
alone, so that whoever commits an event makes the same spans of it.

- An attempt's span comes with its `AttemptFinished`; one that a takeover superseded has one too.
- A question, verify or cancel, is a span below the attempt whose effect it is about, though it begins after
  that has ended. It comes with its `EffectAnswered`, also when nobody answered.
- A step's span comes with the event that settles it. A step that began nothing (skipped, or never reached)
  has none; what was skipped is an event of the span around it.
- The run's span comes with `RunFinished`, and with it those of steps that no event of their own settled: a
  container that ends early cancels what is in it by one event. An attempt that was in flight then has no
  outcome in the journal, and its span ends with its step's.

An attempt that was sent and lost before the journal knew of it, because its orchestrator died, is sent again
under the same number and so under the same span id: the mesh's spans of both hang on one.

A failure is told by its code and reason. Its message may quote an input, and traces leave the platform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core import event as ev
from reflux.core.event import SETTLED, StepState
from reflux.core.flow.model import NodeAction
from reflux.core.state import ROOT
from reflux.core.trace import (
    SpanContext,
    attempt_context,
    is_sampled,
    parse_traceparent,
    question_context,
    span_id,
    trace_id,
)
from reflux.runtime import logs
from reflux.runtime.traces import MAX_ITEMS, Resource, Span, SpanEvent, SpanKind, Value, nanoseconds

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from reflux.core.flow.model import Step
    from reflux.core.names import RunId, StepPath
    from reflux.core.state import RunState, StepRun
    from reflux.runtime.trace_export import Exporter

SERVICE: Final = "reflux-orchestrator"

log = logs.get_logger("tracing")


class Tracer:
    """Tells the collector of the sampled runs of this orchestrator."""

    def __init__(self, exporter: Exporter, *, ratio: float, instance: str) -> None:
        self._exporter = exporter
        self._ratio = ratio
        self._resource = Resource.of(SERVICE, {"service.instance.id": instance})

    def wants(self, run_id: RunId) -> bool:
        """Whether the run is traced."""
        return is_sampled(run_id, self._ratio)

    def traceparent(self, run_id: RunId, step: StepPath, attempt: int) -> str | None:
        """What an attempt sends on; None when its run is not traced."""
        return str(attempt_context(run_id, step, attempt)) if self.wants(run_id) else None

    def questioning(self, run_id: RunId, asked: ev.EffectAsked) -> str | None:
        """What a question sends on; None when its run is not traced."""
        if not self.wants(run_id):
            return None
        return str(question_context(run_id, asked.step, asked.attempt, asked.question, asked.number))

    def committed(self, state: RunState, events: Sequence[ev.Event], commit: asyncio.Future[object]) -> None:
        """Tell of events of a traced run; to be called when their commit is done, well or not."""
        if commit.cancelled() or commit.exception() is not None:
            return
        try:
            self._exporter.add(self._resource, *spans_of(state, events))
        except Exception:  # a span is never worth a run
            log.exception("spans_not_made", run_id=state.id)


def spans_of(state: RunState, events: Sequence[ev.Event]) -> Iterator[Span]:
    """The spans that ended with these events, which were committed together; `state` has folded them."""
    settled: set[StepPath] = set()
    for event in events:
        match event:
            case ev.AttemptFinished():
                yield _attempt(state, event)
                if event.state in SETTLED:
                    settled.add(event.step)
                    yield from _step(state, event.step, event.finish_time)
            case ev.EffectAnswered():
                yield _question(state, event)
                if event.state in SETTLED:
                    settled.add(event.step)
                    yield from _step(state, event.step, event.time)
            case ev.StepSettled():
                settled.add(event.step)
                yield from _step(state, event.step, event.time)
            case ev.RunFinished():
                yield from _left_over(state, event, settled)
                yield _run(state, event)


def _left_over(state: RunState, finished: ev.RunFinished, settled: set[StepPath]) -> Iterator[Span]:
    """Steps that had begun and that no event of their own has settled."""
    for path, run in state.steps.items():
        if (
            run.start_time is None
            or path in settled
            or run.state not in (StepState.CANCELED, StepState.PARKED)
        ):
            continue
        # A container that settled by itself did so before the run's end, or in the same commit.
        before = run.finish_time is not None and run.finish_time < finished.time
        own = before if run.branches is not None else _last_state(run) is StepState.CANCELED
        if own:
            continue
        end = run.finish_time or finished.time
        if run.attempt > (run.finished[-1].attempt if run.finished else 0):
            yield _cut_off(state, path, run, end)
        yield from _step(state, path, end)


def _last_state(run: StepRun) -> StepState | None:
    return run.finished[-1].state if run.finished else None


def _run(state: RunState, finished: ev.RunFinished) -> Span:
    created = state.created
    caller = parse_traceparent(created.traceparent) if created.traceparent else None
    events = []
    if state.cancel is not None:
        events.append(SpanEvent("cancel requested", nanoseconds(state.cancel.time)))
    attributes: dict[str, Value] = {
        "reflux.run.id": state.id,
        "reflux.run.state": finished.state.value,
        "reflux.flow.id": created.flow_id,
        "reflux.flow.name": created.flow_name,
        "reflux.flow.version": created.flow_version,
    }
    if finished.unresolved_effects:
        attributes["reflux.unresolved_effects"] = len(finished.unresolved_effects)
    return Span(
        SpanContext(trace_id(state.id), span_id(state.id)),
        f"run {created.flow_name}",
        SpanKind.INTERNAL,
        nanoseconds(created.time),
        nanoseconds(finished.time),
        attributes=_with_failure(attributes, finished.failure),
        error=_error(finished.failure),
        events=(*events, *_skipped(state, ROOT)),
        # Not a parent: the run's trace id is its own, and its length is not that of somebody's request.
        links=(caller,) if caller is not None else (),
    )


def _step(state: RunState, path: StepPath, end: datetime) -> Iterator[Span]:
    """The span of a step that began; one that needs no node has no length."""
    run = state.steps[path]
    step = run.step
    if run.state is StepState.SKIPPED or (run.start_time is None and run.state is StepState.CANCELED):
        return
    attributes: dict[str, Value] = {
        "reflux.run.id": state.id,
        "reflux.step": path,
        "reflux.step.kind": _kind(step),
        "reflux.step.state": run.state.value,
    }
    if isinstance(step.action, NodeAction):
        attributes["reflux.node"] = step.action.node
    failure = run.failure if run.state in (StepState.FAILED, StepState.PARKED) else None
    yield Span(
        SpanContext(trace_id(state.id), span_id(state.id, path)),
        f"step {path}",
        SpanKind.INTERNAL,
        nanoseconds(run.start_time or end),
        nanoseconds(end),
        parent_id=span_id(state.id, run.parent),
        attributes=_with_failure(attributes, failure),
        error=_error(failure),
        events=tuple(_skipped(state, path)),
    )


def _attempt(state: RunState, event: ev.AttemptFinished) -> Span:
    assignment = event.assignment
    attributes = _attempt_attributes(state, event.step, event.attempt)
    attributes |= {
        "reflux.effect": assignment.effect.value,
        "reflux.draw": assignment.draw,
        "reflux.outcome": event.outcome.value,
    }
    told: dict[str, Value] = {
        "reflux.chosen": assignment.chosen,
        "reflux.weight": assignment.weight,
        "reflux.revision": assignment.revision,
        "reflux.answered_by": assignment.answered_by,
        "reflux.reason": assignment.reason,
        "reflux.tries": assignment.tries,
        "reflux.flags": assignment.flags,
        "reflux.batch_id": assignment.batch_id,
        "reflux.sticky": assignment.sticky.hex(),
    }
    # What nobody said is left out: an attempt that was never sent was assigned to nobody.
    attributes |= {key: value for key, value in told.items() if value or (assignment.chosen and value == 0)}
    claim = state.steps[event.step].claims.get(event.attempt)
    if claim is not None:
        attributes["reflux.claimed_by"] = claim.node_version
    events: tuple[SpanEvent, ...] = ()
    if event.retry_at is not None:
        wait = (event.retry_at - event.finish_time).total_seconds()
        events = (SpanEvent("retry", nanoseconds(event.finish_time), {"reflux.retry.after_seconds": wait}),)
    return Span(
        attempt_context(state.id, event.step, event.attempt),
        f"attempt {event.attempt}",
        SpanKind.CLIENT,
        nanoseconds(event.start_time),
        nanoseconds(event.finish_time),
        parent_id=span_id(state.id, event.step),
        attributes=_with_failure(attributes, event.failure),
        error=_error(event.failure),
        events=events,
    )


def _question(state: RunState, event: ev.EffectAnswered) -> Span:
    key = (event.attempt, event.question, event.number)
    asked = next(
        each
        for each in state.steps[event.step].questions
        if (each.attempt, each.question, each.number) == key
    )
    attributes = _attempt_attributes(state, event.step, event.attempt)
    attributes |= {
        "reflux.question": event.question.value,
        "reflux.question.number": event.number,
        "reflux.knowledge": event.knowledge.value,
        "reflux.answered": event.answered,
        "reflux.node.version": asked.node_version,
    }
    return Span(
        question_context(state.id, event.step, event.attempt, event.question, event.number),
        f"{event.question} {event.number}",
        SpanKind.CLIENT,
        nanoseconds(asked.time),
        nanoseconds(event.time),
        parent_id=span_id(state.id, event.step, event.attempt),
        attributes=_with_failure(attributes, event.failure),
        error=None if event.answered else "no answer",
    )


def _cut_off(state: RunState, path: StepPath, run: StepRun, end: datetime) -> Span:
    """The attempt that was in flight when its step was cancelled."""
    former = run.finished[-1] if run.finished else None
    start = run.start_time if former is None else former.retry_at or former.finish_time
    return Span(
        attempt_context(state.id, path, run.attempt),
        f"attempt {run.attempt}",
        SpanKind.CLIENT,
        nanoseconds(start or end),
        nanoseconds(end),
        parent_id=span_id(state.id, path),
        attributes={**_attempt_attributes(state, path, run.attempt), "reflux.canceled": True},
    )


def _attempt_attributes(state: RunState, path: StepPath, attempt: int) -> dict[str, Value]:
    action = state.steps[path].step.action
    node = action.node if isinstance(action, NodeAction) else ""
    return {"reflux.run.id": state.id, "reflux.step": path, "reflux.attempt": attempt, "reflux.node": node}


def _skipped(state: RunState, container: StepPath) -> Iterator[SpanEvent]:
    """What was not done in the lists that were entered, as far as a span has room."""
    room = MAX_ITEMS - 1
    for path in state.children(container):
        run = state.steps[path]
        if run.state is StepState.SKIPPED and run.finish_time is not None and room:
            room -= 1
            why = run.skip_reason.value if run.skip_reason is not None else ""
            yield SpanEvent(
                "step skipped", nanoseconds(run.finish_time), {"reflux.step": path, "reflux.skip_reason": why}
            )


def _kind(step: Step) -> str:
    return type(step.action).__name__.removesuffix("Action").lower()


def _with_failure(attributes: dict[str, Value], failure: ev.Failure | None) -> dict[str, Value]:
    if failure is not None:
        attributes["error.type"] = str(failure.reason)
        attributes["reflux.failure.code"] = failure.code
    return attributes


def _error(failure: ev.Failure | None) -> str | None:
    return f"{failure.code} {failure.reason}" if failure is not None else None
