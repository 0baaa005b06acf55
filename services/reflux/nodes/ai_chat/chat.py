"""One call of `ai.chat`: the provider is asked, its answer read whole, and made an output.

Nothing partial is ever returned: an answer that breaks off is a fault, and the words so far are forgotten.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final, Self

from reflux.core.errors import InvalidArgument
from reflux.nodes.ai_chat import faults, prices
from reflux.nodes.ai_chat.draft import Draft
from reflux.nodes.ai_chat.model import Output
from reflux.runtime import documents
from reflux.sdk import SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pydantic import JsonValue

    from reflux.nodes.ai_chat.access import Access
    from reflux.nodes.ai_chat.model import Input
    from reflux.nodes.ai_chat.wire import Wire
    from reflux.sdk import Context

ATTEMPT_SECONDS: Final = 120
MAX_CONCURRENCY: Final = 64

# One version at a time: imports of modules that need each other, from two threads, may see half of one.
_LOADING: Final = threading.Lock()

# Only `local` can be without one: nobody can know what a server of somebody's own serves.
_NO_MODEL: Final = "set REFLUX_AI_LOCAL_MODEL, or name a model in the step as providers.local.model"


class Chat:
    """The resource of one version: its client, from the start of the process to its end.

    Args:
        access: how the provider is reached.
        connect: makes the client; it imports the SDK, so it runs in a thread, beginning at once.
    """

    def __init__(self, access: Access, connect: Callable[[Access], Wire]) -> None:
        self._access = access
        self._connect = connect
        self._connecting: asyncio.Task[Wire] | None = None

    async def __aenter__(self) -> Self:
        if self._access.missing is None:
            self._connecting = asyncio.create_task(asyncio.to_thread(self._prepare))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
            if self._connecting.exception() is None:
                await self._connecting.result().close()

    async def perform(self, given: Input, ctx: Context[Chat]) -> Output:
        """One question, from the input to the output.

        Raises:
            NodeFault, TargetFault: see `faults`.
        """
        named = getattr(given.providers, self._access.provider).model
        model = named or self._access.model
        if self._connecting is None or model is None:
            raise faults.not_configured(self._access, self._access.missing or _NO_MODEL)
        deadline = asyncio.get_running_loop().time() + ctx.budget
        wire = await self._client(self._connecting, deadline)
        draft = Draft()
        try:
            async with asyncio.timeout_at(deadline):
                await self._ask(ctx, wire, given, draft, model=model, named=named)
        except TimeoutError:
            fault = faults.still_speaking(self._access, draft.length) if draft.begun else None
            raise fault or faults.silent(self._access) from None
        return self._to_output(draft, ctx, wants_json=given.json_schema is not None)

    async def _client(self, connecting: asyncio.Task[Wire], deadline: float) -> Wire:
        try:
            async with asyncio.timeout_at(deadline):
                # Shared by all calls, so no call's end may cancel it.
                return await asyncio.shield(connecting)
        except TimeoutError:
            raise faults.loading(self._access) from None
        except ImportError:
            raise faults.not_configured(self._access, "install REFLUX with its extra `llm`") from None

    async def _ask(
        self, ctx: Context[Chat], wire: Wire, given: Input, draft: Draft, *, model: str, named: str | None
    ) -> None:
        """The one place where a provider is called; its span speaks OpenTelemetry's GenAI conventions."""
        described = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self._access.provider,
            "gen_ai.request.model": model,
        }
        with ctx.span(f"chat {model}", kind=SpanKind.CLIENT, attributes=described) as span:
            try:
                await wire.ask(given, model, draft)
            except Exception as error:
                fault = wire.explain(error, named=named)
                if fault is None:
                    raise
                raise fault from None
            span.set("gen_ai.response.model", draft.model)
            if draft.usage is not None:
                span.set("gen_ai.usage.input_tokens", draft.usage.input_tokens)
                span.set("gen_ai.usage.output_tokens", draft.usage.output_tokens)

    def _prepare(self) -> Wire:
        with _LOADING:
            wire = self._connect(self._access)
            prices.load()
        return wire

    def _to_output(self, draft: Draft, ctx: Context[Chat], *, wants_json: bool) -> Output:
        assert draft.finish is not None
        cost = prices.cost_of(draft, self._access.provider)
        if cost is not None:
            ctx.spent(cost.amount)  # also for an answer that is of no use
        finish = "refusal" if draft.refused else draft.finish
        parsed: JsonValue = None
        if wants_json and finish == "stop":
            try:
                parsed = documents.parse_json(draft.text.encode(), what="the answer")
            except InvalidArgument:
                raise faults.no_json(self._access) from None
        return Output(
            text=draft.text,
            parsed=parsed,
            finish_reason=finish,
            model=draft.model,
            provider=self._access.provider,
            id=draft.id,
            usage=draft.usage,
            cost=cost,
        )
