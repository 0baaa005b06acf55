"""The wire of OpenAI's chat completions, which `openai` speaks and every server of `local`.

A stream is whole when a choice has given its `finish_reason`; what follows is the usage. `openai` is sent
`max_completion_tokens`, since its reasoning models refuse the older `max_tokens`, which other servers know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import openai

from reflux.nodes.ai_chat import wire
from reflux.nodes.ai_chat.faults import Nonsense
from reflux.nodes.ai_chat.model import FinishReason, Sampling, Usage
from reflux.nodes.ai_chat.wire import Seen

if TYPE_CHECKING:
    import httpx2

    from reflux.nodes.ai_chat.access import Access
    from reflux.nodes.ai_chat.draft import Draft
    from reflux.nodes.ai_chat.model import Input
    from reflux.sdk import NodeFault, TargetFault

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "refusal",
}
_NO_KEY: Final = "no-key"
_STANDARD: Final = frozenset({None, "auto", "default", "standard"})
_IMPERSONAL: Final = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
)


class _Details(Seen):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Usage(Seen):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None


class _Words(Seen):
    content: str | None = None
    refusal: str | None = None


class _Choice(Seen):
    finish_reason: str | None = None
    delta: _Words | None = None
    message: _Words | None = None


class _Piece(Seen):
    """A chunk of a stream, or a whole completion."""

    id: str | None = None
    model: str | None = None
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    service_tier: str | None = None


class Completions:
    """A client of OpenAI's wire; imports the SDK, so it is made in a thread."""

    def __init__(self, access: Access, client: openai.AsyncOpenAI | None = None) -> None:
        self._access = access
        self._client = client or self._open(access)
        # The SDK imports this part only when it is first touched: here, and not in the event loop.
        self._create: Any = self._client.chat.completions.create

    def _open(self, access: Access) -> openai.AsyncOpenAI:
        http = wire.http_client(access)
        if access.provider == "local":
            http.event_hooks = {"request": [self._say_nothing_of_openai]}
        return openai.AsyncOpenAI(
            # The SDK wants a key; a server that needs none does not look at it.
            api_key=access.key or _NO_KEY,
            base_url=access.url or "https://api.openai.com/v1",
            max_retries=0,
            http_client=http,
        )

    def with_key(self, access: Access) -> Completions:
        """See `Wire`."""
        return Completions(access, self._client.with_options(api_key=access.key))

    async def ask(self, given: Input, model: str, draft: Draft) -> None:
        """See `Wire`."""
        question = self._question(given, model)
        if self._access.provider == "local":
            # Over what the environment says for OpenAI (OPENAI_CUSTOM_HEADERS): see `_say_nothing_of_openai`.
            question["extra_headers"] = {"Authorization": f"Bearer {self._access.key or _NO_KEY}"}
        if not self._access.streams:
            self._take(await self._create(**question), draft)
        else:
            question |= {"stream": True, "stream_options": {"include_usage": True}}
            async with await self._create(**question) as stream:
                draft.source = stream.response
                async for chunk in stream:
                    self._take(chunk, draft)
        if draft.finish is None:
            raise Nonsense("it was cut off")

    def explain(self, error: Exception, *, named: str | None) -> NodeFault | TargetFault | None:
        """See `Wire`."""
        return wire.explain(error, openai, self._access, named=named)

    async def close(self) -> None:
        """See `Wire`."""
        await self._client.close()

    def _question(self, given: Input, model: str) -> dict[str, Any]:
        own = self._access.provider == "openai"
        chosen: Sampling = given.providers.openai if own else given.providers.local
        question: dict[str, Any] = {
            "model": model,
            "messages": [message.model_dump() for message in given.messages],
            "max_completion_tokens" if own else "max_tokens": given.max_tokens,
        }
        if given.stop:
            question["stop"] = given.stop
        if given.json_schema is not None:
            described = {"name": "answer", "strict": True, "schema": given.json_schema}
            question["response_format"] = {"type": "json_schema", "json_schema": described}
        return question | chosen.model_dump(exclude={"model"}, exclude_none=True)

    def _take(self, piece: object, draft: Draft) -> None:
        seen = _Piece.model_validate(piece)
        draft.id, draft.model = seen.id or draft.id, seen.model or draft.model
        draft.standard_tier &= seen.service_tier in _STANDARD
        if seen.usage is not None:
            draft.usage = _usage(seen.usage)
        for choice in seen.choices[:1]:
            said = choice.delta or choice.message or _Words()
            draft.add(said.content)
            if said.refusal:
                draft.add(said.refusal)
                draft.refused = True
            if choice.finish_reason is not None:
                draft.end(choice.finish_reason, _REASONS)

    async def _say_nothing_of_openai(self, request: httpx2.Request) -> None:
        """Take out what the SDK adds to every request: the organization, project and headers for OpenAI."""
        # One hook for all accounts: the key is what the SDK was told for this very call.
        given = request.headers.get("Authorization", "")
        for name in set(request.headers) - _IMPERSONAL:
            del request.headers[name]
        if given != f"Bearer {_NO_KEY}":
            request.headers["Authorization"] = given


def _usage(seen: _Usage) -> Usage:
    details = seen.prompt_tokens_details or _Details()
    return Usage(
        input_tokens=seen.prompt_tokens,
        cache_read_tokens=details.cached_tokens or 0,
        cache_write_tokens=details.cache_write_tokens or 0,
        output_tokens=seen.completion_tokens,
    )
