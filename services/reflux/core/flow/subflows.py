"""Flows that a flow names: `flow` steps, and the flow that hears of a failure.

    - { id: report, flow: daily_report, with: { id: "{{ input.id }}" } }
    - { id: later, flow: daily_report@3, wait: detached }
    policies: { on_failure: { flow: tell_somebody } }

Names are constants: what a flow can begin is known before it runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reflux.core.expression import compile_template
from reflux.core.flow.model import FlowAction, Subflow
from reflux.core.flow.problems import ProblemCode
from reflux.core.flow.reading import NOTHING, only_expression
from reflux.core.flow.roots import RUN_ERROR_FIELDS
from reflux.core.names import NAME_RULE, is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reflux.core.document import JsonValue
    from reflux.core.flow.model import Step
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader
    from reflux.core.flow.steps import Draft, StepReader
    from reflux.core.names import StepPath

DETACHED: Final = "detached"
FAILURE_INPUT: Final[JsonValue] = {
    "run_id": "{{ run.id }}",
    "flow": {"name": "{{ flow.name }}", "version": "{{ flow.version }}"},
    "error": {name: f"{{{{ error.{name} }}}}" for name in RUN_ERROR_FIELDS},
    "input": "{{ input }}",
}
"""What the flow that hears of a failure is given (`reflux.core.children`), as a step would write it."""
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")


def read_flow(steps: StepReader, place: Place, draft: Draft) -> FlowAction:
    """The action of a `flow` step."""
    reader = steps.reader
    name, version = _read_name(reader, place)
    wait = reader.optional(draft.place, "wait")
    if wait is not None and wait.value not in (True, DETACHED) and not isinstance(wait.value, dict):
        reader.bad_choice(wait, str(wait.value), ("true", DETACHED))
    given = reader.optional(draft.place, "with")
    template = compile_template({}) if given is None else steps.template(given, draft)
    if given is not None and not isinstance(given.value, dict):
        one = isinstance(given.value, str) and (only_expression(given.value) or template is NOTHING)
        if not one:
            reader.wrong_type(given, "an object, or one template that gives the input")
    return FlowAction(name, version, template, detached=wait is not None and wait.value == DETACHED)


def read_on_failure(reader: Reader, policies: Place | None) -> Subflow | None:
    """`policies.on_failure: {flow: name}`."""
    place = None if policies is None else reader.optional(policies, "on_failure")
    if place is None:
        return None
    reader.known_keys(place, ("flow",))
    named = reader.required(place, "flow")
    if named is None:
        return None
    name, version = _read_name(reader, named)
    return Subflow(name, version, reader.problems.pointer(named.path), FAILURE_INPUT)


def subflows_of(steps: Iterable[Step], inputs: Mapping[StepPath, JsonValue]) -> Iterator[Subflow]:
    """The flows that steps begin, in document order; `inputs` are the `with` of those that have one."""
    for step in steps:
        action, where = step.action, step.pointer
        if isinstance(action, FlowAction) and action.flow:
            at = f"{where}/with" if step.path in inputs else where
            yield Subflow(action.flow, action.version, f"{where}/flow", inputs.get(step.path, {}), at)


def _read_name(reader: Reader, place: Place) -> tuple[str, int | None]:
    """`name` or `name@version`; an empty name for what is neither."""
    text = reader.text(place)
    if text is None:
        return "", None
    name, at, version = text.partition("@")
    if is_name(name) and (not at or _VERSION.fullmatch(version)):
        return name, int(version) if at else None
    message = f"{text[:100]!r} does not name a flow: write name or name@version"
    reader.problems.add(ProblemCode.BAD_NAME, place, message, f"a name is {NAME_RULE}; a version a number")
    return "", None
