"""Whether somebody takes the credentials that a step names. What is behind the names is known to nodes only.

A version lets the slots of its fellow versions be: a step may name a credential for each provider that could
answer. So a slot that *no* version of the node has is a mistake, and would otherwise mean a call without the
credential that its author counts on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.event import Failure
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reflux.api.node.v1.node_service_pb2 import CredentialSlot
    from reflux.core.names import StepPath
    from reflux.orchestrator.mesh_view import VersionView


def slots_of(described: Iterable[CredentialSlot]) -> tuple[str, ...]:
    """Names of a version's slots; "" stands for its default one, beside its name."""
    return tuple(name for slot in described for name in ((slot.name, "") if slot.default else (slot.name,)))


def misplaced(named: Sequence[tuple[str, str]], versions: Iterable[VersionView]) -> list[str]:
    """The slots that none of these versions has."""
    known = {slot for version in versions for slot in version.slots}
    return [slot for slot, _ in named if slot not in known]


def explain(slot: str, node: str, versions: Iterable[VersionView]) -> str:
    """Why nobody takes a credential in this slot."""
    slots = sorted({slot for version in versions for slot in version.slots if slot})
    there = f"it has {', '.join(slots)}" if slots else "it takes no credentials"
    wanted = f"no slot {slot} for a credential" if slot else "no default slot for a credential"
    return f"{node} has {wanted}: {there}"


def unknown_slot(
    step: StepPath, node: str, named: Sequence[tuple[str, str]], versions: Iterable[VersionView]
) -> Failure | None:
    """Why an attempt cannot be sent with these credentials, if it cannot."""
    if not named:
        return None
    versions = list(versions)
    for slot in misplaced(named, versions):
        message = explain(slot, node, versions)
        return Failure("INVALID_ARGUMENT", Reason.CREDENTIAL_UNFIT, message, step=step)
    return None
