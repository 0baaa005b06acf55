"""Which flows a version of a node does not fit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.core.contract import misfits
from reflux.core.errors import NotFound
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core.contract import Misfit, Version
    from reflux.orchestrator.contracts.catalog import SchemaReader
    from reflux.orchestrator.contracts.uses import FlowUses, UseReader
    from reflux.orchestrator.flows.plan import Catalog


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one version stands to what flows use."""

    version: str
    misfits: tuple[tuple[FlowUses, Misfit], ...]
    """Sure ones first, then by flow and in its order."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How versions stand."""

    verdicts: tuple[Verdict, ...]
    serving: tuple[str, ...]
    """Compared with."""
    flow_versions: int
    """Looked at."""


class ContractDesk:
    """Brings flows and schemas together."""

    def __init__(self, uses: UseReader, schemas: SchemaReader, mesh: Catalog) -> None:
        self._uses = uses
        self._schemas = schemas
        self._mesh = mesh

    async def check(self, node: str, versions: Sequence[str] = (), serving: Sequence[str] = ()) -> Answer:
        """How `versions` (none: all that are registered) stand, compared with `serving` (none: by the route).

        Raises:
            NotFound: no such node or version is registered.
            Unavailable: the mesh is not known yet, or the registry does not answer.
            psycopg.Error: the database is away.
        """
        asked = tuple(versions) or tuple(self._mesh.versions(node))
        if not asked:
            raise NotFound(Reason.NODE_NOT_FOUND, f"no node {node!r} is registered")
        route = self._mesh.route(node)
        known = self._mesh.versions(node)
        reached = () if route is None else tuple(each for each in route.reachable if each in known)
        compared = tuple(serving) or reached
        flows = await self._uses.of(node)
        schemas = {each: await self._schemas.of(node, each) for each in dict.fromkeys((*asked, *compared))}
        judged = await asyncio.to_thread(
            _judge, flows, [schemas[each] for each in asked], [schemas[each] for each in compared]
        )
        return Answer(judged, compared, len(flows))


def _judge(
    flows: Sequence[FlowUses], asked: Sequence[Version], serving: Sequence[Version]
) -> tuple[Verdict, ...]:
    """Beside the event loop: many flows take a while."""
    return tuple(
        Verdict(
            new.version,
            tuple(
                sorted(
                    ((flow, misfit) for flow in flows for misfit in misfits(flow.uses, new, serving)),
                    key=lambda found: not found[1].finding.sure,
                )
            ),
        )
        for new in asked
    )
