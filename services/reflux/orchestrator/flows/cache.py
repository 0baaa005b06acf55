"""Compiled flows for those who start and load runs.

A version never changes, so it is read and compiled once and kept until room is needed: the least recently
used goes first, and the sum of the specs' sizes is bounded, because that is what the memory follows.

Which version is current does change. An answer is used for `CURRENT_SECONDS`; a change made through this
process is seen at once (`forget`), one made through another orchestrator within that second. A run that is
started in between begins with the version before, as if it had been started a moment earlier. So a flow that
is started often costs one small read per second, however many runs are started, and no notification has to
arrive for this to be right. That there is no such flow is never remembered.

Those who miss the same thing at the same time share one read.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import orjson

from reflux.core.errors import Defect, NotFound
from reflux.core.reasons import Reason
from reflux.orchestrator.flows.compiling import compile_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.flow import Flow
    from reflux.core.names import FlowId
    from reflux.orchestrator.flows.store import Current, FlowStore

CURRENT_SECONDS: Final = 1.0
MAX_SPEC_BYTES: Final = 16 << 20
"""Sum of the specs of all compiled flows kept."""
MAX_CURRENT: Final = 10_000
"""Flows whose current version is remembered."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A flow as a new run begins with it."""

    flow_id: FlowId
    name: str
    version: int
    flow: Flow
    newest: Resolved | None = None
    """The flow's newest version, whose limits hold; None: this is it, or nobody can have a newer one."""


class FlowCache:
    """Flows by version, and the current version of each."""

    def __init__(
        self,
        store: FlowStore,
        *,
        max_spec_bytes: int = MAX_SPEC_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._room = max_spec_bytes
        self._monotonic = monotonic
        self._flows: OrderedDict[tuple[FlowId, int], tuple[Flow, int]] = OrderedDict()
        self._bytes = 0
        self._current: dict[str, tuple[Current, float]] = {}
        self._changes = 0
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def get(self, flow_id: FlowId, version: int) -> Flow:
        """A version, compiled; also one of a deleted flow, whose runs go on.

        Raises:
            NotFound: there is no such version.
            Defect: what was saved cannot be compiled any more.
            psycopg.Error: the database is away.
        """
        key = (flow_id, version)
        if (flow := self._kept(key)) is not None:
            return flow
        async with self._lock(key):
            if (flow := self._kept(key)) is not None:
                return flow
            return await self._load(flow_id, version)

    async def resolve(self, key: str) -> Resolved:
        """What a run of the flow with this id or name begins with.

        Raises:
            NotFound: there is no such flow.
            Defect: what was saved cannot be compiled any more.
            psycopg.Error: the database is away.
        """
        current = self._known(key)
        if current is None:
            async with self._lock(key):
                current = self._known(key) or await self._ask(key)
        flow = await self.get(current.flow_id, current.version)
        return Resolved(current.flow_id, current.name, current.version, flow)

    async def at(self, flow_id: FlowId, version: int) -> Resolved:
        """What a run of this version begins with; also of a deleted flow, whose runs go on.

        Raises:
            NotFound: there is no such version.
            Defect: what was saved cannot be compiled any more.
            psycopg.Error: the database is away.
        """
        flow = await self.get(flow_id, version)
        try:
            newest = await self.resolve(flow_id)
        except (NotFound, Defect):
            return Resolved(flow_id, flow.name, version, flow)
        return newest if newest.version == version else Resolved(flow_id, newest.name, version, flow, newest)

    async def identify(self, key: str) -> Current:
        """The flow with this name, or with this id, by which also a deleted one is known: its runs go on.

        Raises:
            NotFound: there is no such flow.
            psycopg.Error: the database is away.
        """
        found = await self._store.current(key, deleted=True)
        if found is None:
            raise flow_not_found(key)
        return found

    def forget(self, flow_id: FlowId) -> None:
        """A flow was changed through this process: ask again which version is current."""
        self._changes += 1  # an answer still on its way may be from before
        for key in [key for key, (current, _) in self._current.items() if current.flow_id == flow_id]:
            del self._current[key]

    def _kept(self, key: tuple[FlowId, int]) -> Flow | None:
        entry = self._flows.get(key)
        if entry is None:
            return None
        self._flows.move_to_end(key)
        return entry[0]

    def _known(self, key: str) -> Current | None:
        entry = self._current.get(key)
        return entry[0] if entry is not None and self._monotonic() < entry[1] else None

    async def _ask(self, key: str) -> Current:
        asked, changes = self._monotonic(), self._changes
        current = await self._store.current(key)
        if current is None:
            self._current.pop(key, None)
            raise flow_not_found(key)
        if changes == self._changes:
            while len(self._current) >= MAX_CURRENT:
                del self._current[next(iter(self._current))]
            self._current[key] = (current, asked + CURRENT_SECONDS)
        return current

    async def _load(self, flow_id: FlowId, version: int) -> Flow:
        stored = await self._store.spec(flow_id, version)
        if stored is None:
            flow = await self._store.current(flow_id)
            raise version_not_found(flow_id if flow is None else flow.name, version)
        name, spec = stored
        result = await compile_document({"name": name, "spec": orjson.loads(spec)}, len(spec))
        if result.flow is None:
            problem = result.problems[0]
            message = (
                f"version {version} of flow {name} cannot be compiled: {problem.pointer}: {problem.message}"
            )
            raise Defect(Reason.INTERNAL, message, metadata={"flow_id": flow_id, "version": str(version)})
        self._flows[flow_id, version] = (result.flow, len(spec))
        self._bytes += len(spec)
        while len(self._flows) > 1 and self._bytes > self._room:
            _, (_, size) = self._flows.popitem(last=False)
            self._bytes -= size
        return result.flow

    def _lock(self, key: object) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


def flow_not_found(key: str) -> NotFound:
    """There is no flow with this id or name."""
    shown = key[:100]
    return NotFound(Reason.FLOW_NOT_FOUND, f"there is no flow {shown!r}", metadata={"flow": shown})


def version_not_found(key: str, version: int) -> NotFound:
    """The flow, if it exists, has no such version."""
    message = f"flow {key} has no version {version}"
    metadata = {"flow": key, "version": str(version)}
    return NotFound(Reason.FLOW_VERSION_NOT_FOUND, message, metadata=metadata)
