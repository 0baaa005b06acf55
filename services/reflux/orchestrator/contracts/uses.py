"""What the flows that count use of a node.

A version of a flow never changes, so what it uses is worked out once and kept, within bounds: the least
recently asked for goes first. Which versions count is asked each time. So a question costs one statement over
the specs, and compiling what is new since the last one; who gives up waiting has not waited in vain.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import orjson

from reflux.core.contract import uses_of
from reflux.core.names import FlowId
from reflux.orchestrator.flows.compiling import compile_document
from reflux.runtime.postgres import load_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core.contract import NodeUse
    from reflux.runtime.postgres import Pool

MAX_SPEC_BYTES: Final = 32 << 20
"""Sum of the specs whose uses are kept: uses hold no more than their specs."""
PORTION: Final = 100
"""Specs that are read at once."""

_sql = partial(load_sql, "reflux.orchestrator.contracts")


@dataclass(frozen=True, slots=True)
class FlowUses:
    """What one version of a flow uses of a node, by its route."""

    flow_id: FlowId
    name: str
    version: int
    uses: tuple[NodeUse, ...]
    """Not empty."""


class UseReader:
    """Reads flows; every method may raise psycopg.Error."""

    def __init__(self, pool: Pool, *, max_spec_bytes: int = MAX_SPEC_BYTES) -> None:
        self._pool = pool
        self._room = max_spec_bytes
        self._bytes = 0
        self._known: OrderedDict[tuple[FlowId, int], tuple[tuple[NodeUse, ...], int]] = OrderedDict()

    async def of(self, node: str) -> list[FlowUses]:
        """Every version of a flow that counts and leaves the version of this node to its route, by name."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_sql("flows_in_use"), {"node": node})).fetchall()
        found = []
        keys = [(FlowId(str(row[0])), int(row[2])) for row in rows]
        names = [str(row[1]) for row in rows]
        for start in range(0, len(keys), PORTION):
            portion = keys[start : start + PORTION]
            uses = await self._uses(portion)
            for key, name in zip(portion, names[start:], strict=False):
                own = tuple(each for each in uses.get(key, ()) if each.node == node and each.routed)
                if own:
                    found.append(FlowUses(key[0], name, key[1], own))
        return found

    async def _uses(
        self, keys: Sequence[tuple[FlowId, int]]
    ) -> dict[tuple[FlowId, int], tuple[NodeUse, ...]]:
        found = {}
        for key in keys:
            if (known := self._known.get(key)) is not None:
                self._known.move_to_end(key)
                found[key] = known[0]
        missing = [key for key in keys if key not in found]
        if missing:
            values = {"flow_ids": [key[0] for key in missing], "versions": [key[1] for key in missing]}
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_sql("read_specs"), values)).fetchall()
            for flow_id, version, name, spec in rows:
                key = (FlowId(str(flow_id)), int(version))
                raw = bytes(spec)
                result = await compile_document({"name": name, "spec": orjson.loads(raw)}, len(raw))
                found[key] = uses_of(result)
                self._keep(key, found[key], len(raw))
        return found

    def _keep(self, key: tuple[FlowId, int], uses: tuple[NodeUse, ...], size: int) -> None:
        """Two who read the same at once both keep it; it counts once."""
        if (former := self._known.pop(key, None)) is not None:
            self._bytes -= former[1]
        self._known[key] = (uses, size)
        self._bytes += size
        while len(self._known) > 1 and self._bytes > self._room:
            _, (_, gone) = self._known.popitem(last=False)
            self._bytes -= gone
