"""What a node version says of itself, checked and digested.

The digest covers description, schemas and effect: what callers rely on. Two descriptions with the same digest
are the same version, whatever the spelling of their schemas; timeout, concurrency and whether it takes
batches, verifies, cancels or has a slot for credentials are a matter of the deployment and are not in it.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from reflux.core import names
from reflux.core.errors import InvalidArgument, Violation
from reflux.core.expression import ExpressionProblem, compile_expression
from reflux.core.reasons import Reason
from reflux.runtime import documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reflux.api.node.v1.node_service_pb2 import CredentialSlot, Effect, NodeDescription

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_DESCRIPTION: Final = 2_000
"""Characters."""
MAX_SCOPE: Final = 256
"""Characters."""
MAX_KEY_TTL: Final = timedelta(days=366)
MAX_CONCURRENCY: Final = 100_000
MAX_TIMEOUT_SECONDS: Final = 86_400
MAX_SLOTS: Final = 16
"""For credentials."""


def check(description: NodeDescription) -> str:
    """The digest of a sound description, in hex.

    Raises:
        InvalidArgument: with every problem.
    """
    violations = _violations(description)
    if violations:
        message = f"the description has {len(violations)} problem(s): {violations[0].message}"
        raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=violations)
    content = {
        "description": description.description,
        "input": orjson.loads(description.input_schema),
        "output": orjson.loads(description.output_schema),
        "effect": [
            description.effect.expression,
            getattr(description.effect, "class"),
            description.effect.scope,
            *([description.effect.key_ttl.ToJsonString()] if description.effect.HasField("key_ttl") else []),
        ],
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _violations(of: NodeDescription) -> list[Violation]:
    violations = []
    if not names.is_name(of.node):
        violations.append(Violation("description.node", f"a node's name is {names.NAME_RULE}"))
    if not names.is_version(of.version):
        violations.append(Violation("description.version", "at most 63 of a-z 0-9 . _ -, such as 1.0.0"))
    if len(of.description) > MAX_DESCRIPTION:
        violations.append(Violation("description.description", f"at most {MAX_DESCRIPTION} characters"))
    for field, raw in (("input_schema", of.input_schema), ("output_schema", of.output_schema)):
        problem = _schema_problem(raw)
        if problem:
            violations.append(Violation(f"description.{field}", problem))
    violations += _effect_violations(of.effect)
    violations += _slot_violations(of.credentials)
    timeout = of.attempt_timeout.ToTimedelta().total_seconds()
    if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
        violations.append(
            Violation("description.attempt_timeout", f"above 0, at most {MAX_TIMEOUT_SECONDS} s")
        )
    if not 1 <= of.max_concurrency <= MAX_CONCURRENCY:
        violations.append(Violation("description.max_concurrency", f"from 1 to {MAX_CONCURRENCY}"))
    return violations


def _effect_violations(of: Effect) -> list[Violation]:
    violations = []
    if len(of.scope) > MAX_SCOPE:
        violations.append(Violation("description.effect.scope", f"at most {MAX_SCOPE} characters"))
    if of.HasField("key_ttl") and not timedelta() < of.key_ttl.ToTimedelta() <= MAX_KEY_TTL:
        words = f"above 0, at most {MAX_KEY_TTL.days} days"
        violations.append(Violation("description.effect.key_ttl", words))
    try:
        if of.expression:
            compile_expression(of.expression)
    except ExpressionProblem as error:
        violations.append(Violation("description.effect.expression", error.message))
    return violations


def _slot_violations(slots: Sequence[CredentialSlot]) -> list[Violation]:
    violations = []
    if len(slots) > MAX_SLOTS or sum(slot.default for slot in slots) > 1:
        message = f"at most {MAX_SLOTS} slots for credentials, and one default"
        violations.append(Violation("description.credentials", message))
    taken: set[str] = set()
    for number, slot in enumerate(slots[:MAX_SLOTS]):
        if not names.is_name(slot.name) or slot.name in taken:
            message = f"the name of a slot is {names.NAME_RULE}, and no other slot's"
            violations.append(Violation(f"description.credentials[{number}].name", message))
        taken.add(slot.name)
        if len(slot.description) > MAX_DESCRIPTION or not all(map(names.is_name, slot.kinds)):
            message = f"kinds by their names, described in at most {MAX_DESCRIPTION} characters"
            violations.append(Violation(f"description.credentials[{number}]", message))
    return violations


def _schema_problem(raw: bytes) -> str | None:
    if len(raw) > MAX_SCHEMA_BYTES:
        return f"at most {MAX_SCHEMA_BYTES} bytes"
    try:
        # Its bound on nesting is also what keeps the validator within Python's.
        schema: Any = documents.parse_json(raw, what="the schema")
        Draft202012Validator.check_schema(schema)
    except InvalidArgument as error:
        return error.message
    except SchemaError as error:
        return f"is not a JSON Schema (2020-12): {error.message}"
    return None
