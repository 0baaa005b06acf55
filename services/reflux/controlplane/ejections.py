"""Whom the proxies have ejected: read from Envoy's own statistics, which are the only truth about it.

Each proxy decides by itself from the calls it carried, so the figures are per proxy. They are asked for
every `PAUSE_SECONDS` at the addresses in the settings (`proxy_stats_addresses`): Envoy's admin interface if
it is on this machine, else the read-only listener of the bootstraps. A proxy that cannot be reached has no
figures rather than old ones, and keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from reflux.controlplane import ejected, metrics
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reflux.controlplane.ejected import Out
    from reflux.runtime.metrics import Labels
    from reflux.runtime.settings import Address

PAUSE_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 1.5
MAX_ANSWER_BYTES: Final = 8 << 20
"""Some 40,000 versions."""
PATH: Final = "/stats?filter=outlier_detection%5C.ejections_(active%7Cenforced_total)$&format=json"

_NAME: Final = re.compile(
    r"cluster\.(?P<node>[^@~]+)@(?P<version>[^~]+)\.outlier_detection\.ejections_(?P<what>active|enforced_total)"
)

log = logs.get_logger("ejections")


class Ejected(NamedTuple):
    """What one proxy says of one version."""

    active: int
    """Endpoints ejected now."""
    total: int
    """Ejections since the proxy started."""


async def watch(proxies: Sequence[ProxyWatch]) -> None:
    """Follow all of `proxies`, for ever."""
    async with asyncio.TaskGroup() as tasks:
        for each in proxies:
            tasks.create_task(each.run(), name=f"ejections of {each.proxy}")


class ProxyWatch:
    """Follows one proxy."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.proxy = str(address)
        """Its address."""
        self.out: Mapping[tuple[str, str, str], Out] = {}
        """By node, version and endpoint, those that it has ejected now."""
        self._causes: Mapping[tuple[ejected.Version, ejected.Cause], int] | None = None
        self._now: Mapping[tuple[str, str], Ejected] = {}
        self._totals: Mapping[tuple[str, str], int] = {}
        """As last seen, across times when it was away."""
        self._reachable: bool | None = None
        """None before it was first asked."""

    async def run(self) -> None:
        """Ask, for ever."""
        with self.shown():
            for _ in forever():
                await self.look()
                await asyncio.sleep(PAUSE_SECONDS)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block, what was last seen is in the metrics."""
        reachable = metrics.STATS_REACHABLE.watched(lambda: {(self.proxy,): bool(self._reachable)})
        with reachable, metrics.EJECTED.watched(self._active):
            yield

    async def look(self) -> None:
        """Ask once."""
        try:
            found = read(await self._ask(PATH))
            causes = ejected.read_causes(await self._ask(ejected.CAUSES))
            anybody = any(each.active for each in found.values())
            out = ejected.read_clusters(await self._ask(ejected.CLUSTERS)) if anybody else frozenset()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._reachable is not False:
                log.warning("proxy_stats_unreachable", proxy=self.proxy, error=str(error))
            self._now, self._reachable = {}, False
            self.out, self._causes = {}, None
            return
        self.out = ejected.follow(self.out, out, ejected.risen(self._causes, causes), datetime.now(UTC))
        self._causes = causes
        self._count(found)
        self._now, self._reachable = found, True

    @property
    def reachable(self) -> bool:
        """Whether it answered when it was asked last."""
        return bool(self._reachable)

    async def _ask(self, path: str) -> bytes:
        return await asyncio.to_thread(_get, self._address, path)

    def _count(self, found: Mapping[tuple[str, str], Ejected]) -> None:
        """Add what was ejected since the last look; a proxy that restarted counts from 0 again."""
        for (node, version), of in found.items():
            before = self._totals.get((node, version), 0)
            more = of.total - before if of.total >= before else of.total
            metrics.EJECTIONS.at(self.proxy, node, version).add(more)
        self._totals = {version: of.total for version, of in found.items()}

    def _active(self) -> Mapping[Labels, float]:
        return {(self.proxy, *version): of.active for version, of in self._now.items()}


def read(text: bytes) -> Mapping[tuple[str, str], Ejected]:
    """The ejections by node and version in an answer of `/stats`; chains, which eject nobody, are left out.

    Raises:
        ValueError: it is not what Envoy answers.
    """
    try:
        stats = {each["name"]: int(each["value"]) for each in json.loads(text)["stats"] if "name" in each}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not Envoy's statistics: {error!r}") from None
    found: dict[tuple[str, str], dict[str, int]] = {}
    for name, value in stats.items():
        if match := _NAME.fullmatch(name):
            found.setdefault((match["node"], match["version"]), {})[match["what"]] = value
    return {
        version: Ejected(each.get("active", 0), each.get("enforced_total", 0))
        for version, each in found.items()
    }


def _get(address: Address, path: str) -> bytes:
    """One request; in a thread, bounded by `ANSWER_SECONDS` per read and `MAX_ANSWER_BYTES` in all."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise ValueError(f"status {response.status}")
        text = response.read(MAX_ANSWER_BYTES + 1)
        if len(text) > MAX_ANSWER_BYTES:
            raise ValueError(f"more than {MAX_ANSWER_BYTES} bytes")
        return text
    finally:
        connection.close()
