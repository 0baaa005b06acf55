"""Outputs of pure calls, kept in Redis/Valkey for a while. Nothing depends on them.

What is slow, away or damaged is a miss: the call is made. Nothing is kept here that the journal does not
hold, and nothing that is larger than `MAX_BYTES`; how much is kept in all is the server's own limit.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reflux.core.document import Json
from reflux.runtime import logs

MAX_BYTES: Final = 256 << 10
"""Of an output that is kept."""
SECONDS: Final = 0.1
"""How long either way may take."""
PAUSE_SECONDS: Final = 5.0
"""After a failure nobody asks for so long."""
MAX_CONNECTIONS: Final = 32
_PREFIX: Final = "reflux:result:"

log = logs.get_logger("result_cache")


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Where an output is kept, and for how long."""

    key: str
    """sha256, hexadecimal."""
    ttl: timedelta


def connect(url: str) -> Redis:
    """A client that gives up soon and never tries again by itself."""
    return Redis.from_url(
        url,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        max_connections=MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
    )


class ResultCache:
    """Finds and keeps outputs; never raises."""

    def __init__(self, url: str, *, connect: Callable[[str], Redis] = connect) -> None:
        self._client = connect(url)
        self._rest_until = 0.0

    async def find(self, entry: CacheEntry) -> tuple[str, Json] | None:
        """The version that gave an output, and the output."""
        if self._resting():
            return None
        try:
            async with asyncio.timeout(SECONDS):
                kept = await self._client.get(_PREFIX + entry.key) or b""
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)
            return None
        assert isinstance(kept, bytes), "answers are not decoded"
        version, line, raw = kept.partition(b"\n")
        document = Json(raw)
        try:
            document.value  # noqa: B018 - what is damaged is no output
            return (version.decode(), document) if line else None
        except ValueError:
            return None

    async def keep(self, entry: CacheEntry, version: str, output: Json) -> None:
        """Keeps an output, if it is not too large."""
        if self._resting() or len(output.raw) > MAX_BYTES:
            return
        try:
            async with asyncio.timeout(SECONDS):
                value = version.encode() + b"\n" + output.raw
                await self._client.set(_PREFIX + entry.key, value, px=entry.ttl)
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()

    def _resting(self) -> bool:
        return asyncio.get_running_loop().time() < self._rest_until

    def _rest(self, error: Exception) -> None:
        self._rest_until = asyncio.get_running_loop().time() + PAUSE_SECONDS
        log.warning("result_cache_away", error=str(error) or type(error).__name__)
