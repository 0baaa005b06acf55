"""From a method and path to the trigger that is served there, compiled.

Who has a path is remembered for `flows.cache.CURRENT_SECONDS`, as current versions are, and judged by the
compiled flow each time: an answer is never one that the flow's current version, as the flow cache has it,
does not declare. So what is changed or deleted through this process counts at once, what is changed through
another one within that second, and a webhook that is called often costs two small reads a second. That nobody
has a path is never remembered: a new webhook is served at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from reflux.core.errors import NotFound
from reflux.core.flow.webhook import METHODS, Webhook, normal_path
from reflux.core.reasons import Reason
from reflux.orchestrator.flows.cache import CURRENT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.orchestrator.flows.cache import FlowCache, Resolved
    from reflux.orchestrator.triggers.store import Owner, TriggerStore

    Way = tuple[str, str]
    """Method and path."""

MAX_PATHS: Final = 10_000
"""Owners that are remembered."""


class WebhookPaths:
    """Who is served where."""

    def __init__(
        self, store: TriggerStore, flows: FlowCache, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._flows = flows
        self._monotonic = monotonic
        self._known: dict[Way, tuple[Owner, float]] = {}
        self._locks: WeakValueDictionary[Way, asyncio.Lock] = WeakValueDictionary()

    async def find(self, method: str, path: str) -> tuple[Resolved, Webhook]:
        """The flow, as a run of it begins now, and its trigger.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND.
            Defect: what was saved cannot be compiled any more.
            psycopg.Error: the database is away.
        """
        if method not in METHODS or normal_path(path) != path:  # no flow can declare it
            raise _nothing_there(method, path)
        way = (method, path)
        owner = self._remembered(way)
        found = None if owner is None else await self._declared(owner, way)
        if found is None:
            owner = await self._ask(way, instead_of=owner)
            found = None if owner is None else await self._declared(owner, way)
        if found is None:
            raise _nothing_there(method, path)
        return found

    def _remembered(self, way: Way) -> Owner | None:
        entry = self._known.get(way)
        return entry[0] if entry is not None and self._monotonic() < entry[1] else None

    async def _ask(self, way: Way, *, instead_of: Owner | None) -> Owner | None:
        """The owner as the table has it; who asks at the same time shares one read."""
        lock = self._locks.get(way)
        if lock is None:
            lock = self._locks[way] = asyncio.Lock()
        async with lock:
            known = self._remembered(way)
            if known is not None and known != instead_of:
                return known
            asked = self._monotonic()
            owners = await self._store.owners([way])
            self._known.pop(way, None)
            if not owners:
                return None
            while len(self._known) >= MAX_PATHS:
                del self._known[next(iter(self._known))]
            self._known[way] = (owners[0], asked + CURRENT_SECONDS)
            return owners[0]

    async def _declared(self, owner: Owner, way: Way) -> tuple[Resolved, Webhook] | None:
        """The owner's trigger, if the current version of its flow still has it there."""
        try:
            flow = await self._flows.resolve(owner.flow_id)
            if flow.version < owner.flow_version:  # the table is ahead of what is remembered of the flow
                self._flows.forget(owner.flow_id)
                flow = await self._flows.resolve(owner.flow_id)
        except NotFound:
            return None
        hook = flow.flow.trigger(owner.trigger_id)
        return (flow, hook) if isinstance(hook, Webhook) and (hook.method, hook.path) == way else None


def _nothing_there(method: str, path: str) -> NotFound:
    shown = f"{method[:20]} /hooks/{path[:200]}"
    message = f"no flow has a webhook at {shown}"
    return NotFound(Reason.WEBHOOK_NOT_FOUND, message, metadata={"method": method[:20], "path": path[:200]})
