"""The trivial node version: it answers with its input. A process of its own, as nodes are."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from reflux.runtime import process
from reflux.runtime.settings import Settings
from reflux.sdk import EffectClass, Model, node, serve

NODE = "bench.echo"


class Message(Model):
    """What comes in and goes out."""

    value: str


@node(NODE, "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=10), max_concurrency=1000)
async def echo(message: Message) -> Message:
    """Answer with the input."""
    return message


if __name__ == "__main__":
    settings = Settings.load()
    ready = asyncio.Event()
    process.run(serve([echo], settings, ready=ready), name=NODE, settings=settings, ready=ready)
