"""The values that stored events are made of: times, documents, failures."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.left import Left
from reflux.core.names import StepPath

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def stamp(time: datetime | None) -> Timestamp | None:
    """A time as it is stored; None stays None."""
    if time is None:
        return None
    made = Timestamp()
    set_stamp(made, time)
    return made


def set_stamp(made: Timestamp, time: datetime) -> None:
    """Like `FromDatetime`, of an aware time, in a quarter of its time: it goes by way of the calendar."""
    since = time - _EPOCH
    made.seconds = since.days * 86_400 + since.seconds
    made.nanos = since.microseconds * 1_000


def moment(stored: Timestamp) -> datetime:
    """A stored time."""
    return _EPOCH + timedelta(seconds=stored.seconds, microseconds=stored.nanos // 1_000)


def raw(value: Json | None) -> bytes:
    """A document as it is stored; empty: none."""
    return value.raw if value is not None else b""


def document(stored: bytes) -> Json | None:
    """A stored document; None when there is none."""
    return Json(stored) if stored else None


def left(unresolved: Iterable[str], uncompensated: Iterable[str]) -> Left:
    """What a run has left, of stored or spoken paths."""
    return Left(tuple(map(StepPath, unresolved)), tuple(map(StepPath, uncompensated)))


def failure_out(failure: ev.Failure | None) -> pb.Failure | None:
    """A failure as it is stored."""
    if failure is None:
        return None
    return pb.Failure(
        code=failure.code,
        reason=failure.reason,
        message=failure.message,
        retryable=failure.retryable,
        step=failure.step,
    )


def failure_in(message: Any) -> ev.Failure | None:
    """The failure of a stored message; None when it has none."""
    if not message.HasField("failure"):
        return None
    stored: pb.Failure = message.failure
    return ev.Failure(
        stored.code, stored.reason, stored.message, retryable=stored.retryable, step=stored.step
    )
