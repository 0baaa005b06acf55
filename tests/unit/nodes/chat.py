"""`ai.chat` versions served against the stand-in, each in a way of its own."""

from contextlib import asynccontextmanager

from reflux.nodes import load
from tests.unit.sdk.served import served

VERSIONS = ("openai", "anthropic", "local")
ASKED = {"messages": [{"role": "user", "content": "one two three"}]}
VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")


@asynccontextmanager
async def chat(provider, version, exporter=None, **settings):
    """Serve one version; yields its caller. `local` is told where its server is."""
    local = {"ai_local_url": provider.base_url("local"), "ai_local_model": "stand-in"}
    async with served(load(f"ai.chat@{version}"), exporter=exporter, **(local | settings)) as call:
        yield call


async def ask(provider, version, given=ASKED, *, timeout=60, **settings):
    """One call of one version."""
    async with chat(provider, version, **settings) as call:
        return await call(given, timeout=timeout)
