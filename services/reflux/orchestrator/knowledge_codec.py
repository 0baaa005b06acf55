"""The part of `reflux.orchestrator.codec` for questions about effects of which nobody knows."""

from collections.abc import Callable
from typing import Any, Final

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core import event as ev
from reflux.core.names import StepPath
from reflux.orchestrator.fields import document, failure_in, failure_out, moment, raw, stamp


def question_in(text: str) -> ev.Question | None:
    """A question as it is stored: empty for none."""
    return ev.Question(text) if text else None


def _encode_asked(event: ev.EffectAsked) -> pb.Event:
    asked = pb.EffectAsked(
        step=event.step,
        attempt=event.attempt,
        question=event.question,
        number=event.number,
        node_version=event.node_version,
        time=stamp(event.time),
    )
    return pb.Event(effect_asked=asked)


def _decode_asked(stored: pb.EffectAsked) -> ev.Event:
    return ev.EffectAsked(
        StepPath(stored.step),
        stored.attempt,
        ev.Question(stored.question),
        stored.number,
        stored.node_version,
        moment(stored.time),
    )


def _encode_answered(event: ev.EffectAnswered) -> pb.Event:
    answered = pb.EffectAnswered(
        step=event.step,
        attempt=event.attempt,
        question=event.question,
        number=event.number,
        knowledge=event.knowledge,
        output=raw(event.output),
        detail=event.detail,
        failure=failure_out(event.failure),
        state=event.state,
        retry_at=stamp(event.retry_at),
        next_question=event.next_question or "",
        next_version=event.next_version,
        time=stamp(event.time),
        answered=event.answered,
        acted=event.acted,
    )
    return pb.Event(effect_answered=answered)


def _decode_answered(stored: pb.EffectAnswered) -> ev.Event:
    return ev.EffectAnswered(
        step=StepPath(stored.step),
        attempt=stored.attempt,
        question=ev.Question(stored.question),
        number=stored.number,
        knowledge=ev.Knowledge(stored.knowledge),
        detail=stored.detail,
        state=ev.StepState(stored.state),
        time=moment(stored.time),
        output=document(stored.output),
        failure=failure_in(stored),
        retry_at=moment(stored.retry_at) if stored.HasField("retry_at") else None,
        next_version=stored.next_version,
        next_question=question_in(stored.next_question),
        answered=stored.answered,
        acted=stored.acted,
    )


ENCODERS: Final[dict[type, Callable[[Any], pb.Event]]] = {
    ev.EffectAsked: _encode_asked,
    ev.EffectAnswered: _encode_answered,
}

DECODERS: Final[dict[str, Callable[[Any], ev.Event]]] = {
    "effect_asked": _decode_asked,
    "effect_answered": _decode_answered,
}
