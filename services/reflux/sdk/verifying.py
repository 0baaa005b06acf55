"""What became of an effect: the handlers `verify` and `cancel` of a node version, and their answers.

Asked by the orchestrator when an effect was claimed and no answer came; in no hurry, and perhaps days later.
`verify` changes nothing outside. `cancel` undoes the effect of a key, and is asked again until it answers.

    Found     the effect is there: this is the output that the call would have given
    Voided    it is not there, and no request with the key can make it any more: the provider keeps the key as
              used up
    Unknown   nobody can say. That nothing was found is no proof: the request may still be on its way

Found and Voided are for ever: on them an orchestrator goes on, or asks another provider. A handler that
raises has said Unknown.

>>> async def verify(asked: Asked[Charge], ctx: Context[Client]) -> Knowledge:
...     payment = await ctx.resources.find(asked.idempotency_key)
...     return Unknown("no such payment yet") if payment is None else Found(Receipt(id=payment.id))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

import grpc
from pydantic import BaseModel

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.sdk.envelope import Envelope
from reflux.sdk.faults import TargetFault

if TYPE_CHECKING:
    from reflux.sdk.servicer import NodeServicer
    from reflux.sdk.tracing import CallSpans

InputT = TypeVar("InputT", bound=BaseModel)

MAX_DETAIL: Final = 500
"""Characters."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[InputT]):
    """Which effect is meant: that of a claim."""

    idempotency_key: str
    scope: str
    """Of the claim."""
    execution_id: str
    """Of the call that claimed it."""
    input: InputT
    since: datetime
    """The effect is not older than this, give or take the provider's clock."""


@dataclass(frozen=True, slots=True)
class Found:
    """The effect is there."""

    output: BaseModel
    """Of the version's output model."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Voided:
    """It is not there, and will never be under this key."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say."""

    detail: str


Knowledge: TypeAlias = Found | Voided | Unknown

Asking: TypeAlias = Callable[..., Awaitable[Knowledge]]
"""`(Asked[Input], Context[R]) -> Knowledge`."""


async def ask(
    servicer: NodeServicer,
    handler: Asking | None,
    effect: pb.ClaimedEffect,
    context: Any,
    spans: CallSpans | None = None,
) -> pb.EffectKnowledge:
    """What a handler of the version says of an effect.

    Raises:
        Exception: whatever it is, it is told as that of a call.
    """
    version = servicer.version
    if handler is None:
        message = f"{version.name} cannot say what became of an effect, or cannot undo it by its key"
        raise TargetFault(grpc.StatusCode.UNIMPLEMENTED, message, reason=Reason.ARGUMENT_INVALID)
    value = servicer.read(effect.input)
    envelope = Envelope.read(context.invocation_metadata())
    credentials = await servicer.find(effect.credentials)
    call = servicer.open(envelope, EffectClass.PURE, context.time_remaining(), spans, credentials)
    asked = Asked(
        idempotency_key=effect.idempotency_key,
        scope=effect.scope,
        execution_id=effect.execution_id,
        input=value,
        since=effect.start_time.ToDatetime(UTC),
    )
    async with asyncio.timeout(call.remaining):
        return _message(await handler(asked, call), version.output)


def _message(knowledge: Knowledge, output: type[BaseModel]) -> pb.EffectKnowledge:
    match knowledge:
        case Found():
            if not isinstance(knowledge.output, output):
                kind = type(knowledge.output).__name__
                raise TypeError(f"found a {kind}, not {output.__name__}")
            raw = knowledge.output.model_dump_json().encode()
            return pb.EffectKnowledge(
                state=pb.EffectKnowledge.FOUND, output=raw, detail=knowledge.detail[:MAX_DETAIL]
            )
        case Voided():
            return pb.EffectKnowledge(state=pb.EffectKnowledge.VOIDED, detail=knowledge.detail[:MAX_DETAIL])
        case Unknown():
            return pb.EffectKnowledge(state=pb.EffectKnowledge.UNKNOWN, detail=knowledge.detail[:MAX_DETAIL])
