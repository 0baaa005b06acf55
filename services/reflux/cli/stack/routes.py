"""Waits until the routes that come with REFLUX are whole.

Their versions join them one by one, and only when an orchestrator says that flows fit; on the first start of
a stack that is a moment after the last part is ready, and nobody should find half of a route. A version that
does not fit stays out for good, so the wait is short and its end is no failure.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

PATIENCE_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.05


async def routes_are_whole(edge: str) -> None:
    """Return when no route of the stack at `edge` (a URL) leaves a registered version out, or soon."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while await asyncio.to_thread(_left_out, edge) and loop.time() < deadline:  # noqa: ASYNC110 - no news of it
        await asyncio.sleep(_LOOK_SECONDS)


def _left_out(edge: str) -> bool:
    try:
        with urlopen(f"{edge}/api/routes?page_size=100", timeout=1) as answer:  # noqa: S310 - our own, http
            return any(route["left_out"] for route in json.load(answer)["routes"])
    except (URLError, TimeoutError, OSError, ValueError, KeyError):
        return True  # the edge has not heard of its services yet
