"""The part of `reflux.orchestrator.codec` for the events that words give."""

from collections.abc import Callable
from typing import Any, Final

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.names import StepPath
from reflux.orchestrator.fields import moment, stamp


def _encode_signal(event: ev.SignalReceived) -> pb.Event:
    return pb.Event(
        signal_received=pb.SignalReceived(
            word=event.word,
            name=event.name,
            key=event.key,
            payload=event.payload.raw,
            actor=event.actor,
            time=stamp(event.time),
        )
    )


def _decode_signal(stored: pb.SignalReceived) -> ev.Event:
    payload = Json(stored.payload)
    return ev.SignalReceived(stored.word, stored.name, stored.key, payload, stored.actor, moment(stored.time))


def _encode_answered(event: ev.StepAnswered) -> pb.Event:
    return pb.Event(
        step_answered=pb.StepAnswered(
            word=event.word,
            step=event.step,
            approved=event.approved,
            form=event.form.raw if event.form is not None else b"",
            actor=event.actor,
            comment=event.comment,
            time=stamp(event.time),
        )
    )


def _decode_answered(stored: pb.StepAnswered) -> ev.Event:
    return ev.StepAnswered(
        stored.word,
        StepPath(stored.step),
        stored.approved,
        Json(stored.form) if stored.form else None,
        stored.actor,
        stored.comment,
        moment(stored.time),
    )


def _encode_paused(event: ev.RunPaused) -> pb.Event:
    said = pb.RunPaused(word=event.word, actor=event.actor, reason=event.reason, time=stamp(event.time))
    return pb.Event(run_paused=said)


def _decode_paused(stored: pb.RunPaused) -> ev.Event:
    return ev.RunPaused(stored.word, stored.actor, stored.reason, moment(stored.time))


def _encode_resumed(event: ev.RunResumed) -> pb.Event:
    said = pb.RunResumed(word=event.word, actor=event.actor, reason=event.reason, time=stamp(event.time))
    return pb.Event(run_resumed=said)


def _decode_resumed(stored: pb.RunResumed) -> ev.Event:
    return ev.RunResumed(stored.word, stored.actor, stored.reason, moment(stored.time))


def _encode_overruled(event: ev.StepOverruled) -> pb.Event:
    return pb.Event(
        step_overruled=pb.StepOverruled(
            word=event.word,
            step=event.step,
            choice=event.choice,
            actor=event.actor,
            reason=event.reason,
            time=stamp(event.time),
            version=event.version,
        )
    )


def _decode_overruled(stored: pb.StepOverruled) -> ev.Event:
    return ev.StepOverruled(
        stored.word,
        StepPath(stored.step),
        ev.Choice(stored.choice),
        stored.actor,
        stored.reason,
        moment(stored.time),
        version=stored.version,
    )


def _encode_terminated(event: ev.RunTerminated) -> pb.Event:
    said = pb.RunTerminated(word=event.word, actor=event.actor, reason=event.reason, time=stamp(event.time))
    return pb.Event(run_terminated=said)


def _decode_terminated(stored: pb.RunTerminated) -> ev.Event:
    return ev.RunTerminated(stored.word, stored.actor, stored.reason, moment(stored.time))


ENCODERS: Final[dict[type, Callable[[Any], pb.Event]]] = {
    ev.SignalReceived: _encode_signal,
    ev.StepAnswered: _encode_answered,
    ev.RunPaused: _encode_paused,
    ev.RunResumed: _encode_resumed,
    ev.StepOverruled: _encode_overruled,
    ev.RunTerminated: _encode_terminated,
}

DECODERS: Final[dict[str, Callable[[Any], ev.Event]]] = {
    "signal_received": _decode_signal,
    "step_answered": _decode_answered,
    "run_paused": _decode_paused,
    "run_resumed": _decode_resumed,
    "step_overruled": _decode_overruled,
    "run_terminated": _decode_terminated,
}
