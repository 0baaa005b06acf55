"""Between the facts of `reflux.core.event` and their stored form, `reflux.api.journal.v1`.

Total both ways, and checked by a round trip of every kind. A stored event of a kind or state that this
version does not know is an error, never skipped: folding a journal with a hole would be a different run.
"""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.names import FlowId, StepPath
from reflux.orchestrator import faulting, knowledge_codec, related_codec
from reflux.orchestrator.fields import document, failure_in, failure_out, left, moment, raw, set_stamp, stamp
from reflux.orchestrator.operations import derivation
from reflux.orchestrator.words import codec as words


def encode(event: ev.Event) -> bytes:
    """The stored form of an event."""
    return _ENCODERS[type(event)](event).SerializeToString()


def decode(payload: bytes) -> ev.Event:
    """The event of a stored form.

    Raises:
        ValueError: the payload is damaged, or was written by a version that knows more kinds than this one.
    """
    try:
        stored = pb.Event.FromString(payload)
    except DecodeError as error:
        raise ValueError(f"the journal holds a damaged event: {error}") from error
    kind = stored.WhichOneof("kind")
    if kind is None:
        raise ValueError("the journal holds an event of a kind that this version does not know")
    return _DECODERS[kind](getattr(stored, kind))


def kind_of(event: ev.Event) -> str:
    """The name people see, e.g. `AttemptFinished`."""
    return type(event).__name__


def _assignment_in(stored: pb.AttemptFinished) -> ev.Assignment:
    return ev.Assignment(
        effect=EffectClass(stored.effect),
        lane=Lane(stored.lane),
        draw=stored.draw,
        chosen=stored.chosen,
        weight=stored.weight,
        revision=stored.revision,
        answered_by=stored.answered_by,
        reason=stored.reason,
        tries=stored.tries,
        flags=stored.flags,
        batch_id=stored.batch_id,
        sticky=stored.sticky,
    )


def _encode_created(event: ev.RunCreated) -> pb.Event:
    return pb.Event(
        run_created=pb.RunCreated(
            flow_id=event.flow_id,
            flow_name=event.flow_name,
            flow_version=event.flow_version,
            input=event.input.raw,
            actor=event.actor,
            time=stamp(event.time),
            trigger=event.trigger,
            traceparent=event.traceparent,
            parent_run=event.parent_run,
            parent_step=event.parent_step,
            depth=event.depth,
            failure_of=event.failure_of,
            trigger_type=event.trigger_type,
            scheduled_for=stamp(event.scheduled_for),
            priority=None if event.priority == ev.DEFAULT_PRIORITY else event.priority,
            queued=event.queued,
            **derivation.written(event),
            **faulting.written(event.faults),
        )
    )


def _decode_created(stored: pb.RunCreated) -> ev.Event:
    return ev.RunCreated(
        FlowId(stored.flow_id),
        stored.flow_name,
        stored.flow_version,
        Json(stored.input),
        stored.actor,
        moment(stored.time),
        trigger=stored.trigger,
        traceparent=stored.traceparent,
        parent_run=stored.parent_run,
        parent_step=stored.parent_step,
        depth=stored.depth,
        failure_of=stored.failure_of,
        origin=derivation.origin(stored),
        pins=derivation.pins(stored),
        only_step=derivation.only_step(stored),
        trigger_type=stored.trigger_type,
        scheduled_for=moment(stored.scheduled_for) if stored.HasField("scheduled_for") else None,
        priority=stored.priority if stored.HasField("priority") else ev.DEFAULT_PRIORITY,
        queued=stored.queued,
        faults=faulting.read(stored),
    )


QUEUED_TAIL: Final = pb.Event(run_created=pb.RunCreated(queued=True)).SerializeToString()
"""Appended to a stored `RunCreated`, it makes that a queued run's.

Protobuf merges the fields of a message that comes twice (encoding.proto.dev, "Last One Wins"), so whoever
knows only in the end whether the run must wait need not encode it anew.
"""


def _encode_admitted(event: ev.RunAdmitted) -> pb.Event:
    return pb.Event(run_admitted=pb.RunAdmitted(time=stamp(event.time)))


def _decode_admitted(stored: pb.RunAdmitted) -> ev.Event:
    return ev.RunAdmitted(moment(stored.time))


def _encode_started(event: ev.AttemptStarted) -> pb.Event:
    started = pb.AttemptStarted(
        step=event.step,
        attempt=event.attempt,
        generation=event.generation,
        effect=event.assignment.effect,
        lane=event.assignment.lane,
        draw=event.assignment.draw,
        time=stamp(event.time),
        input_digest=event.input_digest,
        sticky=event.assignment.sticky,
    )
    if event.limit is not None:
        started.limit.FromTimedelta(event.limit)
    return pb.Event(attempt_started=started)


def _decode_started(stored: pb.AttemptStarted) -> ev.Event:
    return ev.AttemptStarted(
        StepPath(stored.step),
        stored.attempt,
        stored.generation,
        ev.Assignment(EffectClass(stored.effect), Lane(stored.lane), draw=stored.draw, sticky=stored.sticky),
        moment(stored.time),
        stored.input_digest,
        stored.limit.ToTimedelta() if stored.HasField("limit") else None,
    )


def _encode_held(event: ev.AttemptHeld) -> pb.Event:
    return pb.Event(
        attempt_held=pb.AttemptHeld(
            step=event.step,
            attempt=event.attempt,
            why=event.why,
            until=stamp(event.until),
            time=stamp(event.time),
        )
    )


def _decode_held(stored: pb.AttemptHeld) -> ev.Event:
    until = moment(stored.until) if stored.HasField("until") else None
    return ev.AttemptHeld(StepPath(stored.step), stored.attempt, stored.why, until, moment(stored.time))


def _encode_claimed(event: ev.EffectClaimed) -> pb.Event:
    claimed = pb.EffectClaimed(
        step=event.step,
        attempt=event.attempt,
        execution_id=event.execution_id,
        scope=event.scope,
        node_version=event.node_version,
    )
    if event.key_ttl is not None:
        claimed.key_ttl.FromTimedelta(event.key_ttl)
    return pb.Event(effect_claimed=claimed)


def _decode_claimed(stored: pb.EffectClaimed) -> ev.Event:
    return ev.EffectClaimed(
        StepPath(stored.step),
        stored.attempt,
        stored.execution_id,
        stored.scope,
        stored.node_version,
        stored.key_ttl.ToTimedelta() if stored.HasField("key_ttl") else None,
    )


def _encode_finished(event: ev.AttemptFinished) -> pb.Event:
    # Nearly every event of a busy orchestrator is this one. Setting fields in place costs a third of handing
    # them to the constructors (bench.core), which copy what they are given.
    assignment = event.assignment
    stored = pb.Event()
    finished = stored.attempt_finished
    finished.step = event.step
    finished.attempt = event.attempt
    finished.generation = event.generation
    finished.outcome = event.outcome
    if event.output is not None:
        finished.output = event.output.raw
    if (failure := failure_out(event.failure)) is not None:
        finished.failure.CopyFrom(failure)
    finished.state = event.state
    if event.retry_at is not None:
        set_stamp(finished.retry_at, event.retry_at)
    finished.effect = assignment.effect
    finished.lane = assignment.lane
    finished.draw = assignment.draw
    finished.chosen = assignment.chosen
    finished.weight = assignment.weight
    finished.revision = assignment.revision
    finished.answered_by = assignment.answered_by
    finished.reason = assignment.reason
    finished.tries = assignment.tries
    finished.flags = assignment.flags
    finished.batch_id = assignment.batch_id
    if assignment.sticky:
        finished.sticky = assignment.sticky
    set_stamp(finished.start_time, event.start_time)
    set_stamp(finished.finish_time, event.finish_time)
    finished.counted = event.counted
    if event.next_version:
        finished.next_version = event.next_version
    if event.cost_nanos is not None:
        finished.cost_nanos = event.cost_nanos
    if event.next_question is not None:
        finished.next_question = event.next_question
    return stored


def _decode_finished(stored: pb.AttemptFinished) -> ev.Event:
    return ev.AttemptFinished(
        step=StepPath(stored.step),
        attempt=stored.attempt,
        generation=stored.generation,
        outcome=ev.Outcome(stored.outcome),
        state=ev.StepState(stored.state),
        assignment=_assignment_in(stored),
        start_time=moment(stored.start_time),
        finish_time=moment(stored.finish_time),
        output=document(stored.output),
        failure=failure_in(stored),
        retry_at=moment(stored.retry_at) if stored.HasField("retry_at") else None,
        counted=stored.counted,
        next_version=stored.next_version,
        next_question=knowledge_codec.question_in(stored.next_question),
        cost_nanos=stored.cost_nanos if stored.HasField("cost_nanos") else None,
    )


def _encode_entered(event: ev.StepEntered) -> pb.Event:
    entered = pb.StepEntered(
        step=event.step,
        branches=event.branches,
        time=stamp(event.time),
        count=event.count,
        key=event.key,
        message=event.message,
        who=event.who,
    )
    if event.until is not None:
        entered.until.FromDatetime(event.until)
    return pb.Event(step_entered=entered)


def _decode_entered(stored: pb.StepEntered) -> ev.Event:
    return ev.StepEntered(
        StepPath(stored.step),
        tuple(stored.branches),
        moment(stored.time),
        count=stored.count,
        until=moment(stored.until) if stored.HasField("until") else None,
        key=stored.key,
        message=stored.message,
        who=tuple(stored.who),
    )


def _encode_settled(event: ev.StepSettled) -> pb.Event:
    return pb.Event(
        step_settled=pb.StepSettled(
            step=event.step,
            state=event.state,
            output=raw(event.output),
            failure=failure_out(event.failure),
            skip_reason=event.skip_reason or "",
            time=stamp(event.time),
            kept=event.kept,
            signal=event.signal,
            unresolved_effects=event.left.unresolved,
            uncompensated=event.left.uncompensated,
            acted=event.acted,
        )
    )


def _decode_settled(stored: pb.StepSettled) -> ev.Event:
    return ev.StepSettled(
        step=StepPath(stored.step),
        state=ev.StepState(stored.state),
        time=moment(stored.time),
        output=document(stored.output),
        failure=failure_in(stored),
        skip_reason=ev.SkipReason(stored.skip_reason) if stored.skip_reason else None,
        kept=stored.kept,
        signal=stored.signal,
        left=left(stored.unresolved_effects, stored.uncompensated),
        acted=stored.acted,
    )


def _encode_cancel(event: ev.CancelRequested) -> pb.Event:
    cancel = pb.CancelRequested(
        actor=event.actor, reason=event.reason, time=stamp(event.time), recalled=event.recalled
    )
    return pb.Event(cancel_requested=cancel)


def _decode_cancel(stored: pb.CancelRequested) -> ev.Event:
    return ev.CancelRequested(stored.actor, stored.reason, moment(stored.time), recalled=stored.recalled)


def _encode_timed_out(event: ev.TimedOut) -> pb.Event:
    return pb.Event(timed_out=pb.TimedOut(step=event.step, time=stamp(event.time)))


def _decode_timed_out(stored: pb.TimedOut) -> ev.Event:
    return ev.TimedOut(StepPath(stored.step), moment(stored.time))


def _encode_recovered(event: ev.RunRecovered) -> pb.Event:
    recovered = pb.RunRecovered(owner=event.owner, fencing_token=event.fencing_token, time=stamp(event.time))
    return pb.Event(run_recovered=recovered)


def _decode_recovered(stored: pb.RunRecovered) -> ev.Event:
    return ev.RunRecovered(stored.owner, stored.fencing_token, moment(stored.time))


def _encode_parked(event: ev.RunParked) -> pb.Event:
    return pb.Event(run_parked=pb.RunParked(failure=failure_out(event.failure), time=stamp(event.time)))


def _decode_parked(stored: pb.RunParked) -> ev.Event:
    failure = failure_in(stored)
    if failure is None:
        raise ValueError("a RunParked event without its reason")
    return ev.RunParked(failure, moment(stored.time))


def _encode_run_finished(event: ev.RunFinished) -> pb.Event:
    return pb.Event(
        run_finished=pb.RunFinished(
            state=event.state,
            output=raw(event.output),
            failure=failure_out(event.failure),
            unresolved_effects=event.unresolved_effects,
            uncompensated=event.uncompensated,
            time=stamp(event.time),
        )
    )


def _decode_run_finished(stored: pb.RunFinished) -> ev.Event:
    return ev.RunFinished(
        state=ev.RunPhase(stored.state),
        time=moment(stored.time),
        output=document(stored.output),
        failure=failure_in(stored),
        unresolved_effects=tuple(StepPath(step) for step in stored.unresolved_effects),
        uncompensated=tuple(StepPath(step) for step in stored.uncompensated),
    )


_ENCODERS: Final[dict[type, Callable[[Any], pb.Event]]] = {
    ev.RunCreated: _encode_created,
    ev.RunAdmitted: _encode_admitted,
    ev.AttemptStarted: _encode_started,
    ev.AttemptHeld: _encode_held,
    ev.EffectClaimed: _encode_claimed,
    ev.AttemptFinished: _encode_finished,
    ev.StepEntered: _encode_entered,
    ev.StepSettled: _encode_settled,
    ev.CancelRequested: _encode_cancel,
    ev.TimedOut: _encode_timed_out,
    ev.RunRecovered: _encode_recovered,
    ev.RunParked: _encode_parked,
    ev.RunFinished: _encode_run_finished,
    **knowledge_codec.ENCODERS,
    **related_codec.ENCODERS,
    **words.ENCODERS,
}

_DECODERS: Final[dict[str, Callable[[Any], ev.Event]]] = {
    "run_created": _decode_created,
    "run_admitted": _decode_admitted,
    "attempt_started": _decode_started,
    "attempt_held": _decode_held,
    "effect_claimed": _decode_claimed,
    "attempt_finished": _decode_finished,
    "step_entered": _decode_entered,
    "step_settled": _decode_settled,
    "cancel_requested": _decode_cancel,
    "timed_out": _decode_timed_out,
    "run_recovered": _decode_recovered,
    "run_parked": _decode_parked,
    "run_finished": _decode_run_finished,
    **knowledge_codec.DECODERS,
    **related_codec.DECODERS,
    **words.DECODERS,
}
