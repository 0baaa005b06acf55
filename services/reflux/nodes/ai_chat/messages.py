"""The wire of Anthropic's messages.

A stream is whole when `message_stop` has come. Only text counts: what a model thinks aloud is not its answer.
Anthropic counts cached tokens beside `input_tokens`; the output counts them in, as OpenAI does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anthropic

from reflux.nodes.ai_chat import wire
from reflux.nodes.ai_chat.faults import Nonsense
from reflux.nodes.ai_chat.model import FinishReason, Usage
from reflux.nodes.ai_chat.wire import Seen

if TYPE_CHECKING:
    from reflux.nodes.ai_chat.access import Access
    from reflux.nodes.ai_chat.draft import Draft
    from reflux.nodes.ai_chat.model import Input
    from reflux.sdk import NodeFault, TargetFault

_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class _Usage(Seen):
    """Of the beginning, and cumulative at the end; what is not told again stands."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None


class _Message(Seen):
    id: str
    model: str
    usage: _Usage


class _Delta(Seen):
    text: str | None = None
    stop_reason: str | None = None


class _Event(Seen):
    type: str
    message: _Message | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


class Messages:
    """A client of Anthropic's wire; imports the SDK, so it is made in a thread."""

    def __init__(self, access: Access, client: anthropic.AsyncAnthropic | None = None) -> None:
        self._access = access
        self._client = client or anthropic.AsyncAnthropic(
            api_key=access.key,
            base_url=access.url or "https://api.anthropic.com",
            max_retries=0,
            # Spans are the node's own matter, and the same for every provider.
            open_telemetry=False,
            http_client=wire.http_client(access),
        )
        # The SDK imports this part only when it is first touched: here, and not in the event loop.
        self._create: Any = self._client.messages.create

    def with_key(self, access: Access) -> Messages:
        """See `Wire`."""
        return Messages(access, self._client.with_options(api_key=access.key))

    async def ask(self, given: Input, model: str, draft: Draft) -> None:
        """See `Wire`."""
        counted: dict[str, int] = {}
        whole = False
        async with await self._create(**_question(given, model), stream=True) as stream:
            draft.source = stream.response
            async for event in stream:
                seen = _Event.model_validate(event)
                _take(seen, draft, counted)
                whole = whole or seen.type == "message_stop"
        if not whole or draft.finish is None:
            raise Nonsense("it was cut off")
        draft.usage = _usage(counted)

    def explain(self, error: Exception, *, named: str | None) -> NodeFault | TargetFault | None:
        """See `Wire`."""
        return wire.explain(error, anthropic, self._access, named=named)

    async def close(self) -> None:
        """See `Wire`."""
        await self._client.close()


def _question(given: Input, model: str) -> dict[str, Any]:
    system = given.system
    question: dict[str, Any] = {
        "model": model,
        "max_tokens": given.max_tokens,
        "messages": [message.model_dump() for message in given.messages[len(system) :]],
    }
    if system:
        question["system"] = [{"type": "text", "text": text} for text in system]
    if given.stop:
        question["stop_sequences"] = given.stop
    if given.json_schema is not None:
        question["output_config"] = {"format": {"type": "json_schema", "schema": given.json_schema}}
    return question


def _take(event: _Event, draft: Draft, counted: dict[str, int]) -> None:
    if event.message is not None:
        draft.id, draft.model = event.message.id, event.message.model
    usage = event.usage or (event.message.usage if event.message else None)
    if usage is not None:
        draft.standard_tier &= usage.service_tier in {None, "standard"} and usage.speed in {None, "standard"}
        draft.standard_tier &= usage.inference_geo in {None, "global", "not_available"}
        counted |= {name: value for name, value in usage.model_dump().items() if isinstance(value, int)}
    if event.delta is not None:
        draft.add(event.delta.text)
        if event.delta.stop_reason is not None:
            draft.end(event.delta.stop_reason, _REASONS)


def _usage(counted: dict[str, int]) -> Usage | None:
    if "input_tokens" not in counted or "output_tokens" not in counted:
        return None
    read, written = counted.get("cache_read_input_tokens", 0), counted.get("cache_creation_input_tokens", 0)
    return Usage(
        input_tokens=counted["input_tokens"] + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=counted["output_tokens"],
    )
