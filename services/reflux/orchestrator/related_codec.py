"""The part of `reflux.orchestrator.codec` for what one run has to do with others, and with its own past."""

from collections.abc import Callable
from typing import Any, Final

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core import event as ev
from reflux.core.names import RunId, StepPath
from reflux.orchestrator.fields import document, failure_in, failure_out, moment, raw, stamp


def _encode_kept(event: ev.OutcomeKept) -> pb.Event:
    return pb.Event(
        outcome_kept=pb.OutcomeKept(
            step=event.step,
            state=event.state,
            run_id=event.run_id,
            output=raw(event.output),
            failure=failure_out(event.failure),
            skip_reason=event.skip_reason or "",
            attempts=event.attempts,
            version=event.version,
            items_digest=event.items_digest,
            cost_nanos=event.cost_nanos,
            owed=event.owed,
            acted=event.acted,
            failed_outcome=event.failed_outcome or "",
            failed_attempts=event.failed_attempts,
        )
    )


def _decode_kept(stored: pb.OutcomeKept) -> ev.Event:
    return ev.OutcomeKept(
        step=StepPath(stored.step),
        state=ev.StepState(stored.state),
        run_id=stored.run_id,
        output=document(stored.output),
        failure=failure_in(stored),
        skip_reason=ev.SkipReason(stored.skip_reason) if stored.skip_reason else None,
        attempts=stored.attempts,
        version=stored.version,
        items_digest=stored.items_digest,
        cost_nanos=stored.cost_nanos if stored.HasField("cost_nanos") else None,
        owed=stored.owed,
        acted=stored.acted if stored.HasField("acted") else None,
        failed_outcome=ev.Outcome(stored.failed_outcome) if stored.failed_outcome else None,
        failed_attempts=stored.failed_attempts,
    )


def _encode_compensation(event: ev.CompensationStarted) -> pb.Event:
    failure = failure_out(event.failure)
    started = pb.CompensationStarted(count=event.count, failure=failure, time=stamp(event.time))
    return pb.Event(compensation_started=started)


def _decode_compensation(stored: pb.CompensationStarted) -> ev.Event:
    failure = failure_in(stored)
    if failure is None:
        raise ValueError("a CompensationStarted event without its reason")
    return ev.CompensationStarted(stored.count, failure, moment(stored.time))


def _encode_child_requested(event: ev.ChildRequested) -> pb.Event:
    return pb.Event(
        child_requested=pb.ChildRequested(
            step=event.step,
            run_id=event.run_id,
            flow=event.flow,
            version=event.version,
            detached=event.detached,
            time=stamp(event.time),
        )
    )


def _decode_child_requested(stored: pb.ChildRequested) -> ev.Event:
    return ev.ChildRequested(
        StepPath(stored.step),
        RunId(stored.run_id),
        stored.flow,
        stored.version,
        detached=stored.detached,
        time=moment(stored.time),
    )


def _encode_child_started(event: ev.ChildStarted) -> pb.Event:
    return pb.Event(
        child_started=pb.ChildStarted(
            step=event.step,
            run_id=event.run_id,
            flow_name=event.flow_name,
            flow_version=event.flow_version,
            time=stamp(event.time),
            failure=failure_out(event.failure),
        )
    )


def _decode_child_started(stored: pb.ChildStarted) -> ev.Event:
    return ev.ChildStarted(
        StepPath(stored.step),
        RunId(stored.run_id),
        stored.flow_name,
        stored.flow_version,
        moment(stored.time),
        failure_in(stored),
    )


def _encode_child_recalled(event: ev.ChildRecalled) -> pb.Event:
    recalled = pb.ChildRecalled(
        step=event.step, run_id=event.run_id, reason=event.reason, time=stamp(event.time)
    )
    return pb.Event(child_recalled=recalled)


def _decode_child_recalled(stored: pb.ChildRecalled) -> ev.Event:
    return ev.ChildRecalled(StepPath(stored.step), RunId(stored.run_id), stored.reason, moment(stored.time))


ENCODERS: Final[dict[type, Callable[[Any], pb.Event]]] = {
    ev.OutcomeKept: _encode_kept,
    ev.CompensationStarted: _encode_compensation,
    ev.ChildRequested: _encode_child_requested,
    ev.ChildStarted: _encode_child_started,
    ev.ChildRecalled: _encode_child_recalled,
}

DECODERS: Final[dict[str, Callable[[Any], ev.Event]]] = {
    "outcome_kept": _decode_kept,
    "compensation_started": _decode_compensation,
    "child_requested": _decode_child_requested,
    "child_started": _decode_child_started,
    "child_recalled": _decode_child_recalled,
}
