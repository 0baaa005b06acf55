"""Says in the log when a version is registered that flows cannot be given to.

A version gets no calls by being registered; one that a shipped route names joins it only when it fits.
Whoever deploys it should hear then, and not when it is given its first share. Every orchestrator says it once
of each version; at the start it says nothing of those that are there already.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psycopg

from reflux.core.errors import RefluxError
from reflux.runtime import logs
from reflux.runtime.tasks import forever

if TYPE_CHECKING:
    from reflux.orchestrator.contracts.desk import ContractDesk, Verdict
    from reflux.orchestrator.flows.plan import Catalog

LOOK_SECONDS: Final = 2.0
MAX_FLOWS: Final = 10
"""Named in one line of the log."""

log = logs.get_logger("contracts")


class NewVersions:
    """Looks at what the registry has told, now and then."""

    def __init__(self, desk: ContractDesk, mesh: Catalog) -> None:
        self._desk = desk
        self._mesh = mesh
        self._seen: set[tuple[str, str]] | None = None

    async def run(self) -> None:
        """For ever, once the mesh is known."""
        for _ in forever():
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Once; what could not be compared is looked at again."""
        try:
            present = {
                (node, version) for node in self._mesh.nodes() for version in self._mesh.versions(node)
            }
        except RefluxError:  # nothing is known yet
            return
        if self._seen is None:
            self._seen = present
        for node, version in sorted(present - self._seen):
            try:
                answer = await self._desk.check(node, (version,))
            except (RefluxError, psycopg.Error) as error:
                log.info("contracts_unknown", node=node, version=version, error=str(error))
                continue
            self._seen.add((node, version))
            for verdict in answer.verdicts:
                _say(node, verdict)
        self._seen &= present


def _say(node: str, verdict: Verdict) -> None:
    if not verdict.misfits:
        return
    flows = dict.fromkeys(f"{flow.name}@{flow.version}" for flow, _ in verdict.misfits)
    (flow, first), *_ = verdict.misfits
    log.warning(
        "version_does_not_fit",
        node=node,
        version=verdict.version,
        flows=", ".join([*flows][:MAX_FLOWS]),
        more=max(0, len(flows) - MAX_FLOWS),
        place=f"{flow.name}@{flow.version}{first.finding.pointer}",
        why=first.finding.message,
        hint=f"reflux node get {node}@{verdict.version} names each step",
    )
