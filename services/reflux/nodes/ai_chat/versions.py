"""The versions of `ai.chat`: who is asked."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from reflux.nodes.ai_chat.access import Access, to_anthropic, to_local, to_openai
from reflux.nodes.ai_chat.chat import ATTEMPT_SECONDS, MAX_CONCURRENCY, Chat
from reflux.nodes.ai_chat.model import Input, Output  # noqa: TC001 - the SDK reads the annotations
from reflux.sdk import Context, CredentialSlot, EffectClass, Key, node

if TYPE_CHECKING:
    from reflux.nodes.ai_chat.wire import Wire
    from reflux.runtime.settings import Settings

_LIMIT = timedelta(seconds=ATTEMPT_SECONDS)


def _slot(provider: str) -> CredentialSlot:
    return CredentialSlot(provider, (Key,), f"An account at {provider}, in place of the operator's own.")


def open_openai(settings: Settings) -> Chat:
    """The client of OpenAI."""
    return Chat(to_openai(settings, os.environ), _completions)


def open_anthropic(settings: Settings) -> Chat:
    """The client of Anthropic."""
    return Chat(to_anthropic(settings, os.environ), _messages)


def open_local(settings: Settings) -> Chat:
    """The client of the operator's own server."""
    return Chat(to_local(settings), _completions)


def _completions(access: Access) -> Wire:
    from reflux.nodes.ai_chat.completions import Completions

    return Completions(access)


def _messages(access: Access) -> Wire:
    from reflux.nodes.ai_chat.messages import Messages

    return Messages(access)


@node(
    "ai.chat",
    "openai",
    effect=EffectClass.PURE,
    attempt_timeout=_LIMIT,
    max_concurrency=MAX_CONCURRENCY,
    resources=open_openai,
    credentials=(_slot("openai"),),
)
async def openai(given: Input, ctx: Context[Chat]) -> Output:
    """Asks a language model of OpenAI, and gives its answer with usage and cost.

    Needs OPENAI_API_KEY; OPENAI_BASE_URL names a gateway. The model is `providers.openai.model`, else
    REFLUX_AI_OPENAI_MODEL. When the provider is down, limited or refuses the operator's key the call falls
    back as the route says, and so it does when nothing is heard from it for REFLUX_AI_IDLE_SECONDS: a model
    that may think for longer before its first word needs more of them. What the provider declines in the
    input fails the step (PROVIDER_DECLINED).
    """
    return await ctx.resources.perform(given, ctx)


@node(
    "ai.chat",
    "anthropic",
    effect=EffectClass.PURE,
    attempt_timeout=_LIMIT,
    max_concurrency=MAX_CONCURRENCY,
    resources=open_anthropic,
    credentials=(_slot("anthropic"),),
)
async def anthropic(given: Input, ctx: Context[Chat]) -> Output:
    """Asks a language model of Anthropic, and gives its answer with usage and cost.

    Needs ANTHROPIC_API_KEY; ANTHROPIC_BASE_URL names a gateway. The model is `providers.anthropic.model`,
    else REFLUX_AI_ANTHROPIC_MODEL. When the provider is down, limited or refuses the operator's key the call
    falls back as the route says, and so it does when nothing, not even a ping, is heard from it for
    REFLUX_AI_IDLE_SECONDS; what it declines in the input fails the step (PROVIDER_DECLINED).
    """
    return await ctx.resources.perform(given, ctx)


@node(
    "ai.chat",
    "local",
    effect=EffectClass.PURE,
    attempt_timeout=_LIMIT,
    max_concurrency=MAX_CONCURRENCY,
    resources=open_local,
    credentials=(_slot("local"),),
)
async def local(given: Input, ctx: Context[Chat]) -> Output:
    """Asks a language model behind any OpenAI-compatible server, such as one of your own.

    Needs REFLUX_AI_LOCAL_URL, and REFLUX_AI_LOCAL_KEY where the server wants a key. The model is
    `providers.local.model`, else REFLUX_AI_LOCAL_MODEL. Its cost is not known here and so null. A server from
    which nothing is heard for REFLUX_AI_IDLE_SECONDS is given up, and the call falls back as the route says;
    for one that loads or thinks for longer before its first word raise them.
    """
    return await ctx.resources.perform(given, ctx)
