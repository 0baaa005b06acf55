"""What an HTTP client sees: events of a stream, errors in their shape."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

DEADLINE = 10.0


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a server-sent event stream; `comment` when it is one."""

    event: str = ""
    id: str = ""
    data: str = ""
    comment: str | None = None


async def next_block(response: aiohttp.ClientResponse) -> Block | None:
    """The next event or comment; None when the stream ended."""
    async with asyncio.timeout(DEADLINE):
        raw = await response.content.readuntil(b"\n\n")
    fields: dict[str, str] = {}
    for line in raw.decode().splitlines():
        name, _, value = line.partition(":")
        if name == "retry":
            return await next_block(response)
        if name or value or line == ":":
            fields[name or "comment"] = value.strip()
    return Block(**fields) if raw else None


async def rest(response: aiohttp.ClientResponse) -> list[Block]:
    """Every event until the stream ends, without comments."""
    blocks = []
    while (block := await next_block(response)) is not None:
        if block.comment is None:
            blocks.append(block)
    return blocks


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def reason_of(response: aiohttp.ClientResponse) -> str:
    """The reason of an error answer, whose shape is checked."""
    body: dict[str, Any] = await response.json()
    assert set(body) == {"code", "message", "details"}
    (info,) = [detail for detail in body["details"] if detail["@type"].endswith("google.rpc.ErrorInfo")]
    assert info["domain"] == "reflux.dev"
    return str(info["reason"])
