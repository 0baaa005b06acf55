"""The one way to change a route: propose a revision, lead every proxy to it, say what became of it.

An update is a new revision that every connected proxy must accept. Updates take turns within one control
plane, so a refusal is blamed on the update that caused it. Turns end after WAIT_SECONDS: when a proxy is
silent for longer, or two control planes update at once, a proxy may refuse several updates together, and
then each of them says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from reflux.controlplane.routes import new_salt
from reflux.controlplane.store import State
from reflux.core.errors import Conflict, Refused
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from reflux.controlplane.controller import Controller
    from reflux.controlplane.routes import Route
    from reflux.controlplane.store import RouteStore, Standing

WAIT_SECONDS: Final = 5.0
"""How long an update waits for the proxies before it is answered as it stands."""


class Updates:
    """Every change of a route that goes through this control plane."""

    def __init__(self, store: RouteStore, controller: Controller) -> None:
        self._store = store
        self._controller = controller
        self._turn = asyncio.Lock()

    async def make(self, route: Route, *, author: str, note: str, contracts_ignored: bool = False) -> int:
        """Make `route` the newest revision, if `route.revision` (0: any) is the one that serves.

        Whether versions fit what flows use is judged before (`contracts`); `contracts_ignored` says that it
        was not.

        Returns:
            The number of the new revision, once every connected proxy serves it or the wait is over.

        Raises:
            Conflict: REVISION_STALE.
            Refused: ROUTE_REJECTED, with the proxy's own words; the former revision serves on.
        """
        async with self._turn:
            if route.salt is None:
                salt = await self._store.salt(route.node)
                route = replace(route, salt=new_salt() if salt is None else salt)
            revision = await self._store.propose(
                route, author=author, note=note, contracts_ignored=contracts_ignored
            )
            if revision is None:
                message = (
                    f"the route of {route.node} is no longer at revision {route.revision}; read it again"
                )
                raise Conflict(Reason.REVISION_STALE, message)
            standing = await self._outcome(route.node, revision)
        if standing.state is State.REJECTED:
            message = f"a proxy refused the route, the former one serves on. {standing.refusal}"
            metadata = {"node": route.node, "revision": str(revision)}
            raise Refused(Reason.ROUTE_REJECTED, message, metadata=metadata)
        return revision

    async def _outcome(self, node: str, revision: int) -> Standing:
        """Where the revision stands once it is settled, or when the wait is over."""
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        turns = self._controller.turns
        self._controller.wake()
        while (standing := await self._store.standing(node, revision)).state is State.PENDING:
            # Around the turns alone: a time-out could be lost inside of psycopg (`runtime.tasks`).
            try:
                async with asyncio.timeout_at(deadline):
                    turns = await self._controller.turned(turns)
            except TimeoutError:
                break
        return standing
