"""Whether an input fits what a flow wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflux.core.errors import InvalidArgument
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
