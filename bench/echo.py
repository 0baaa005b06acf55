"""The trivial node versions: they answer with their input. One takes batches, the other does not.

A process of its own, as nodes are. `python -m bench.echo NODE@VERSION …` serves versions of those names
instead, none of which takes batches.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import Final

from reflux.runtime import process
from reflux.runtime.settings import Settings
from reflux.sdk import EffectClass, Model, NodeVersion, node, serve

NODE: Final = "bench.echo"
SINGLE: Final = "bench.single"


class Message(Model):
    """What comes in and goes out."""

    value: str


def version(name: str, number: str = "1.0.0", *, batchable: bool) -> NodeVersion:
    """A version of one of them."""

    async def echo(message: Message) -> Message:
        """Answer with the input."""
        return message

    return node(
        name,
        number,
        effect=EffectClass.PURE,
        attempt_timeout=timedelta(seconds=20),
        max_concurrency=1000,
        batchable=batchable,
    )(echo)


if __name__ == "__main__":
    settings = Settings.load()
    ready = asyncio.Event()
    named = [each.partition("@") for each in sys.argv[1:]]
    versions = [version(name, number, batchable=False) for name, _, number in named] or [
        version(NODE, batchable=True),
        version(SINGLE, batchable=False),
    ]
    process.run(serve(versions, settings, ready=ready), name="bench", settings=settings, ready=ready)
