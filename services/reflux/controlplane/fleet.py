"""The fleet: every proxy connected to this control plane, and the snapshot all of them are led to.

`publish` sets the goal; each stream follows in its own time. `reports` says how far each of them is, and the
callback given to `Fleet` tells whenever one of those answers may have changed.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reflux.controlplane import metrics
from reflux.controlplane.subscription import Refusal, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from reflux.controlplane.snapshot import Proxy, Snapshot
    from reflux.runtime.metrics import Labels

_ACKNOWLEDGED = metrics.ACKNOWLEDGEMENT.at()


@dataclass(slots=True, eq=False)
class Link:
    """One open stream."""

    proxy: Proxy
    subscription: Subscription = field(default_factory=Subscription)
    snapshot: Snapshot | None = None
    """The newest snapshot pushed into the subscription."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    since: float = 0.0
    """When it was opened, by `time.monotonic`."""
    timed: Snapshot | None = None
    """The newest snapshot whose acknowledgement was timed."""


@dataclass(frozen=True, slots=True)
class Report:
    """How far a proxy is with the newest snapshot."""

    proxy: str
    settled: bool
    refusal: Refusal | None


class Fleet:
    """The streams of one control plane."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._links: set[Link] = set()
        self.snapshot: Snapshot | None = None
        """The goal; None before the first, and then no proxy is told anything and each keeps what it has."""
        self._published = 0.0

    def publish(self, snapshot: Snapshot) -> None:
        """Lead every proxy to `snapshot`."""
        self.snapshot = snapshot
        self._published = time.monotonic()
        for link in self._links:
            link.wake.set()

    @contextmanager
    def connected(self, proxy: Proxy) -> Iterator[Link]:
        """A stream of `proxy`, for as long as the block runs."""
        link = Link(proxy, since=time.monotonic())
        link.wake.set()
        self._links.add(link)
        self._on_change()
        try:
            yield link
        finally:
            self._links.discard(link)
            self._on_change()

    def answered(self) -> None:
        """A proxy has said something."""
        for link in self._links:
            current = link.snapshot is self.snapshot and link.timed is not self.snapshot
            if current and link.subscription.settled:
                link.timed = self.snapshot
                _ACKNOWLEDGED.record(time.monotonic() - max(self._published, link.since))
        self._on_change()

    def connections(self) -> Mapping[Labels, float]:
        """Open streams, for the metrics."""
        return {(): len(self._links)}

    def reports(self) -> list[Report]:
        """One per proxy that serves nodes, by name.

        An edge gets nothing from here, so nothing waits for it. A proxy may have several streams, one of them
        dead and not yet noticed, or another proxy may have been given the same name: it has settled when all
        of them have.
        """
        links: dict[str, list[Link]] = {}
        for link in self._links:
            if link.proxy.mesh is not None:
                links.setdefault(link.proxy.name, []).append(link)
        return [self._report(name, links[name]) for name in sorted(links)]

    def _report(self, name: str, links: Sequence[Link]) -> Report:
        current = [link.subscription for link in links if link.snapshot is self.snapshot]
        return Report(
            name,
            settled=len(current) == len(links) and all(each.settled for each in current),
            refusal=next((each.refusal for each in current if each.refusal), None),
        )
