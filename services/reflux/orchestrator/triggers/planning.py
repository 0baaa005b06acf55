"""What only a running system knows of a flow's triggers: whose the paths are, and whether there are keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.flow import Problem, ProblemCode
from reflux.core.flow.webhook import Webhook
from reflux.orchestrator.triggers.signatures import SecretUnusable, key_of
from reflux.orchestrator.triggers.store import taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.core.flow.triggers import Trigger
    from reflux.orchestrator.triggers.signatures import Secrets
    from reflux.orchestrator.triggers.store import TriggerStore


class TriggerPlanner:
    """Finds what would keep the triggers of a document from working here."""

    def __init__(self, store: TriggerStore, secrets: Secrets) -> None:
        self._store = store
        self._secrets = secrets

    async def problems(self, triggers: Sequence[Trigger], flow: str) -> list[Problem]:
        """Of the triggers of `flow`, by id or name: its own paths are not taken."""
        hooks = [trigger for trigger in triggers if isinstance(trigger, Webhook)]
        found = [problem for hook in hooks if (problem := self._secret_problem(hook)) is not None]
        ways = {(hook.method, hook.path): hook for hook in hooks if hook.path}
        for owner in await self._store.owners(list(ways)) if ways else ():
            if flow not in (owner.flow_id, owner.flow_name):
                pointer = f"{ways[owner.method, owner.path].pointer}/path"
                hint = "choose another path or method, or change that flow"
                found.append(Problem(ProblemCode.PATH_TAKEN, pointer, taken(owner), hint))
        return found

    def _secret_problem(self, hook: Webhook) -> Problem | None:
        if hook.hmac is None or not hook.hmac.secret:
            return None
        try:
            key_of(hook.hmac, self._secrets)
        except SecretUnusable as error:
            pointer = f"{hook.pointer}/secret/env"
            hint = (
                "set it in the environment of the orchestrators; until then deliveries are answered with 503"
            )
            return Problem(ProblemCode.SECRET_MISSING, pointer, str(error), hint)
        return None
