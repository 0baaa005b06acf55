"""The stored form of what makes a run another one than its flow version: origin, pins, the only step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core.document import Json
from reflux.core.names import RunId, StepPath
from reflux.core.origin import FormerChild, OnlyStep, Operation, Origin

if TYPE_CHECKING:
    from reflux.core import event as ev


def written(event: ev.RunCreated) -> dict[str, Any]:
    """The fields of `RunCreated` that hold it; none for a run that was just started."""
    fields: dict[str, Any] = {}
    if (origin := event.origin) is not None:
        fields["origin"] = pb.Origin(
            operation=origin.operation,
            run_id=origin.run_id,
            steps=origin.steps,
            flow_version=origin.flow_version,
            kept=origin.kept,
            attempt=origin.attempt,
            children=[
                pb.FormerChild(step=step, run_id=child.run_id, given=child.given)
                for step, child in origin.children.items()
            ],
        )
    if event.pins:
        fields["pins"] = dict(event.pins)
    if (only := event.only_step) is not None:
        fields["only_step"] = pb.OnlyStep(
            step=only.step,
            values=only.values.raw if only.values else b"",
            given=only.given.raw if only.given else b"",
        )
    return fields


def origin(stored: pb.RunCreated) -> Origin | None:
    """Where the run comes from.

    Raises:
        ValueError: it was made by an operation that this version does not know.
    """
    if not stored.HasField("origin"):
        return None
    held = stored.origin
    steps = tuple(StepPath(step) for step in held.steps)
    operation, attempt = Operation(held.operation), held.attempt or 1
    children = {StepPath(each.step): FormerChild(RunId(each.run_id), each.given) for each in held.children}
    return Origin(operation, held.run_id, steps, held.flow_version, held.kept, attempt, children)


def pins(stored: pb.RunCreated) -> tuple[tuple[str, str], ...]:
    """Other node versions, by step id in order."""
    return tuple(sorted(stored.pins.items()))


def only_step(stored: pb.RunCreated) -> OnlyStep | None:
    """The one step that the run consists of."""
    if not stored.HasField("only_step"):
        return None
    held = stored.only_step
    return OnlyStep(
        StepPath(held.step),
        Json(held.values) if held.values else None,
        Json(held.given) if held.given else None,
    )
