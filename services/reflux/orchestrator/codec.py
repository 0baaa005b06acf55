"""Between the facts of `reflux.core.event` and their stored form, `reflux.api.journal.v1`.

Total both ways, and checked by a round trip of every kind. A stored event of a kind or state that this
version does not know is an error, never skipped: folding a journal with a hole would be a different run.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.names import FlowId, StepPath
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


def _stamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _raw(document: Json | None) -> bytes:
    return document.raw if document is not None else b""


def _json(raw: bytes) -> Json | None:
    return Json(raw) if raw else None


def _failure_out(failure: ev.Failure | None) -> pb.Failure | None:
    if failure is None:
        return None
    return pb.Failure(
        code=failure.code,
        reason=failure.reason,
        message=failure.message,
        retryable=failure.retryable,
        step=failure.step,
    )


def _failure_in(message: Any) -> ev.Failure | None:
    if not message.HasField("failure"):
        return None
    stored: pb.Failure = message.failure
    return ev.Failure(
        stored.code, stored.reason, stored.message, retryable=stored.retryable, step=stored.step
    )


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
    )


def _encode_created(event: ev.RunCreated) -> pb.Event:
    return pb.Event(
        run_created=pb.RunCreated(
            flow_id=event.flow_id,
            flow_name=event.flow_name,
            flow_version=event.flow_version,
            input=event.input.raw,
            actor=event.actor,
            time=_stamp(event.time),
            trigger=event.trigger,
            traceparent=event.traceparent,
            trigger_type=event.trigger_type,
            scheduled_for=_stamp(event.scheduled_for),
            **derivation.written(event),
        )
    )


def _decode_created(stored: pb.RunCreated) -> ev.Event:
    return ev.RunCreated(
        FlowId(stored.flow_id),
        stored.flow_name,
        stored.flow_version,
        Json(stored.input),
        stored.actor,
        _time(stored.time),
        trigger=stored.trigger,
        traceparent=stored.traceparent,
        origin=derivation.origin(stored),
        pins=derivation.pins(stored),
        only_step=derivation.only_step(stored),
        trigger_type=stored.trigger_type,
        scheduled_for=_time(stored.scheduled_for) if stored.HasField("scheduled_for") else None,
    )


def _encode_kept(event: ev.OutcomeKept) -> pb.Event:
    return pb.Event(
        outcome_kept=pb.OutcomeKept(
            step=event.step,
            state=event.state,
            run_id=event.run_id,
            output=_raw(event.output),
            failure=_failure_out(event.failure),
            skip_reason=event.skip_reason or "",
            attempts=event.attempts,
            version=event.version,
            items_digest=event.items_digest,
        )
    )


def _decode_kept(stored: pb.OutcomeKept) -> ev.Event:
    return ev.OutcomeKept(
        step=StepPath(stored.step),
        state=ev.StepState(stored.state),
        run_id=stored.run_id,
        output=_json(stored.output),
        failure=_failure_in(stored),
        skip_reason=ev.SkipReason(stored.skip_reason) if stored.skip_reason else None,
        attempts=stored.attempts,
        version=stored.version,
        items_digest=stored.items_digest,
    )


def _encode_started(event: ev.AttemptStarted) -> pb.Event:
    return pb.Event(
        attempt_started=pb.AttemptStarted(
            step=event.step,
            attempt=event.attempt,
            generation=event.generation,
            effect=event.assignment.effect,
            lane=event.assignment.lane,
            draw=event.assignment.draw,
            time=_stamp(event.time),
            input_digest=event.input_digest,
        )
    )


def _decode_started(stored: pb.AttemptStarted) -> ev.Event:
    return ev.AttemptStarted(
        StepPath(stored.step),
        stored.attempt,
        stored.generation,
        ev.Assignment(EffectClass(stored.effect), Lane(stored.lane), draw=stored.draw),
        _time(stored.time),
        stored.input_digest,
    )


def _encode_claimed(event: ev.EffectClaimed) -> pb.Event:
    return pb.Event(
        effect_claimed=pb.EffectClaimed(
            step=event.step,
            attempt=event.attempt,
            execution_id=event.execution_id,
            scope=event.scope,
            node_version=event.node_version,
        )
    )


def _decode_claimed(stored: pb.EffectClaimed) -> ev.Event:
    step = StepPath(stored.step)
    return ev.EffectClaimed(step, stored.attempt, stored.execution_id, stored.scope, stored.node_version)


def _encode_finished(event: ev.AttemptFinished) -> pb.Event:
    assignment = event.assignment
    return pb.Event(
        attempt_finished=pb.AttemptFinished(
            step=event.step,
            attempt=event.attempt,
            generation=event.generation,
            outcome=event.outcome,
            output=_raw(event.output),
            failure=_failure_out(event.failure),
            state=event.state,
            retry_at=_stamp(event.retry_at),
            effect=assignment.effect,
            lane=assignment.lane,
            draw=assignment.draw,
            chosen=assignment.chosen,
            weight=assignment.weight,
            revision=assignment.revision,
            answered_by=assignment.answered_by,
            reason=assignment.reason,
            tries=assignment.tries,
            flags=assignment.flags,
            start_time=_stamp(event.start_time),
            finish_time=_stamp(event.finish_time),
            counted=event.counted,
        )
    )


def _decode_finished(stored: pb.AttemptFinished) -> ev.Event:
    return ev.AttemptFinished(
        step=StepPath(stored.step),
        attempt=stored.attempt,
        generation=stored.generation,
        outcome=ev.Outcome(stored.outcome),
        state=ev.StepState(stored.state),
        assignment=_assignment_in(stored),
        start_time=_time(stored.start_time),
        finish_time=_time(stored.finish_time),
        output=_json(stored.output),
        failure=_failure_in(stored),
        retry_at=_time(stored.retry_at) if stored.HasField("retry_at") else None,
        counted=stored.counted,
    )


def _encode_entered(event: ev.StepEntered) -> pb.Event:
    entered = pb.StepEntered(
        step=event.step,
        branches=event.branches,
        time=_stamp(event.time),
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
        _time(stored.time),
        count=stored.count,
        until=_time(stored.until) if stored.HasField("until") else None,
        key=stored.key,
        message=stored.message,
        who=tuple(stored.who),
    )


def _encode_settled(event: ev.StepSettled) -> pb.Event:
    return pb.Event(
        step_settled=pb.StepSettled(
            step=event.step,
            state=event.state,
            output=_raw(event.output),
            failure=_failure_out(event.failure),
            skip_reason=event.skip_reason or "",
            time=_stamp(event.time),
            kept=event.kept,
            signal=event.signal,
        )
    )


def _decode_settled(stored: pb.StepSettled) -> ev.Event:
    return ev.StepSettled(
        step=StepPath(stored.step),
        state=ev.StepState(stored.state),
        time=_time(stored.time),
        output=_json(stored.output),
        failure=_failure_in(stored),
        skip_reason=ev.SkipReason(stored.skip_reason) if stored.skip_reason else None,
        kept=stored.kept,
        signal=stored.signal,
    )


def _encode_cancel(event: ev.CancelRequested) -> pb.Event:
    cancel = pb.CancelRequested(actor=event.actor, reason=event.reason, time=_stamp(event.time))
    return pb.Event(cancel_requested=cancel)


def _decode_cancel(stored: pb.CancelRequested) -> ev.Event:
    return ev.CancelRequested(stored.actor, stored.reason, _time(stored.time))


def _encode_timed_out(event: ev.TimedOut) -> pb.Event:
    return pb.Event(timed_out=pb.TimedOut(step=event.step, time=_stamp(event.time)))


def _decode_timed_out(stored: pb.TimedOut) -> ev.Event:
    return ev.TimedOut(StepPath(stored.step), _time(stored.time))


def _encode_recovered(event: ev.RunRecovered) -> pb.Event:
    recovered = pb.RunRecovered(owner=event.owner, fencing_token=event.fencing_token, time=_stamp(event.time))
    return pb.Event(run_recovered=recovered)


def _decode_recovered(stored: pb.RunRecovered) -> ev.Event:
    return ev.RunRecovered(stored.owner, stored.fencing_token, _time(stored.time))


def _encode_parked(event: ev.RunParked) -> pb.Event:
    return pb.Event(run_parked=pb.RunParked(failure=_failure_out(event.failure), time=_stamp(event.time)))


def _decode_parked(stored: pb.RunParked) -> ev.Event:
    failure = _failure_in(stored)
    if failure is None:
        raise ValueError("a RunParked event without its reason")
    return ev.RunParked(failure, _time(stored.time))


def _encode_run_finished(event: ev.RunFinished) -> pb.Event:
    return pb.Event(
        run_finished=pb.RunFinished(
            state=event.state,
            output=_raw(event.output),
            failure=_failure_out(event.failure),
            unresolved_effects=event.unresolved_effects,
            time=_stamp(event.time),
        )
    )


def _decode_run_finished(stored: pb.RunFinished) -> ev.Event:
    return ev.RunFinished(
        state=ev.RunPhase(stored.state),
        time=_time(stored.time),
        output=_json(stored.output),
        failure=_failure_in(stored),
        unresolved_effects=tuple(StepPath(step) for step in stored.unresolved_effects),
    )


_ENCODERS: Final[dict[type, Callable[[Any], pb.Event]]] = {
    ev.RunCreated: _encode_created,
    ev.OutcomeKept: _encode_kept,
    ev.AttemptStarted: _encode_started,
    ev.EffectClaimed: _encode_claimed,
    ev.AttemptFinished: _encode_finished,
    ev.StepEntered: _encode_entered,
    ev.StepSettled: _encode_settled,
    ev.CancelRequested: _encode_cancel,
    ev.TimedOut: _encode_timed_out,
    ev.RunRecovered: _encode_recovered,
    ev.RunParked: _encode_parked,
    ev.RunFinished: _encode_run_finished,
    **words.ENCODERS,
}

_DECODERS: Final[dict[str, Callable[[Any], ev.Event]]] = {
    "run_created": _decode_created,
    "outcome_kept": _decode_kept,
    "attempt_started": _decode_started,
    "effect_claimed": _decode_claimed,
    "attempt_finished": _decode_finished,
    "step_entered": _decode_entered,
    "step_settled": _decode_settled,
    "cancel_requested": _decode_cancel,
    "timed_out": _decode_timed_out,
    "run_recovered": _decode_recovered,
    "run_parked": _decode_parked,
    "run_finished": _decode_run_finished,
    **words.DECODERS,
}
