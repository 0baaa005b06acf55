"""Whether an input fits what a flow wants, and what a run with it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.errors import InvalidArgument
from reflux.core.flow.limits import Claim, Said, claim_of
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from reflux.core.document import Json
    from reflux.orchestrator.flows.cache import Resolved


def check_input(flow: Resolved, document: Json) -> None:
    """Does nothing when it fits.

    Raises:
        InvalidArgument: it does not fit the schema of the flow.
    """
    schema = flow.flow.input_schema
    violations = schema.violations(document.value) if schema is not None else ()
    if violations:
        raise InvalidArgument(
            Reason.INPUT_INVALID,
            f"the input does not fit the schema of flow {flow.name}: {violations[0].message}",
            violations=violations,
        )


def claim(flow: Resolved, document: Json) -> Claim:
    """What a run with this input asks for before it may begin, by the limits of the flow's newest version.

    An input of before may not give a key that the newest version asks for: then what its own version says of
    that limit holds for the run, and for no other.

    Raises:
        InvalidArgument: it gives no key that the flow asks for.
    """
    own = _said(flow)
    return (
        claim_of(document.value, own)
        if flow.newest is None
        else claim_of(document.value, _said(flow.newest), own)
    )


def _said(flow: Resolved) -> Said:
    return Said(flow.flow.limits, flow.flow.vars, flow.version)
