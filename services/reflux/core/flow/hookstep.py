"""A first step `node: webhook.trigger`, the older spelling of a webhook, becomes a trigger.

    steps:                                                 triggers:
      - {id: hook, node: webhook.trigger,        →           - {id: hook, type: webhook, path: orders}
         with: {path: orders}}                             steps:
      - {id: a, set: {x: "{{ steps.hook.output.n }}"}}       - {id: a, set: {x: "{{ input.n }}"}}

What such a step gave was what had started the run, and that is the run's input now: `steps.hook.output` is
read as `input`, however its keys are written. A `needs` that names the step loses it, for nothing has to be
waited for. What else could be said about it (`steps.hook.state`, say) is left as it is, and there is no such
step then. `with` is the trigger, all but its id and type, which the step has said; an id is in lower case
then, as names are.

A step that says more than id, node and `with`, or that is not the first one, is left where it is, for the
compiler to refuse: what it says would be lost.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reflux.core.expression import ExpressionProblem, compile_template

if TYPE_CHECKING:
    from collections.abc import Callable

    from reflux.core.document import JsonValue
    from reflux.core.flow.problems import Path

NODE: Final = "webhook.trigger"
_MOVABLE: Final = frozenset({"id", "node", "with"})
_TAKEN: Final = frozenset({"id", "type"})


def lift(spec: JsonValue, moved: Callable[[Path, Path], None]) -> JsonValue:
    """`spec` with such a first step as a trigger; `moved(new, old)` is told what stands elsewhere now."""
    if not isinstance(spec, dict):
        return spec
    steps, triggers = spec.get("steps"), spec.get("triggers", [])
    if not isinstance(steps, list) or not steps or not isinstance(triggers, list):
        return spec
    first, *others = steps
    trigger = _trigger(first)
    if trigger is None:
        return spec
    step_id = str(first["id"]) if isinstance(first, dict) else ""
    place: Path = ("spec", "triggers", len(triggers))
    moved(place, ("spec", "steps", 0, "with"))
    moved((*place, "id"), ("spec", "steps", 0, "id"))
    moved((*place, "type"), ("spec", "steps", 0, "node"))
    for number in range(len(others)):
        moved(("spec", "steps", number), ("spec", "steps", number + 1))
    rewritten: list[JsonValue] = [_without_need(_reading_input(step, step_id), step_id) for step in others]
    lifted: dict[str, JsonValue] = {}
    for key, value in spec.items():
        if key == "steps":
            lifted |= {"triggers": [*triggers, trigger], "steps": rewritten}
        elif key != "triggers":
            lifted[key] = value
    return lifted


def _trigger(step: JsonValue) -> dict[str, JsonValue] | None:
    """The trigger that a step spells; None when it spells none, or something besides."""
    if not isinstance(step, dict) or step.get("node") != NODE or step.keys() - _MOVABLE:
        return None
    said = step.get("with", {})
    if not isinstance(step.get("id"), str) or not isinstance(said, dict) or _TAKEN & said.keys():
        return None
    return {"id": str(step["id"]).lower(), "type": "webhook", **said}


def _without_need(step: JsonValue, step_id: JsonValue) -> JsonValue:
    needs = step.get("needs") if isinstance(step, dict) else None
    if not isinstance(step, dict) or not isinstance(needs, list) or step_id not in needs:
        return step
    return {**step, "needs": [need for need in needs if need != step_id]}


def _reading_input(value: JsonValue, step_id: str) -> JsonValue:
    """A value with `steps.<id>.output` read as `input` in every template inside."""
    if isinstance(value, str):
        return _renamed(value, step_id)
    if isinstance(value, dict):
        return {key: _reading_input(inner, step_id) for key, inner in value.items()}
    return [_reading_input(inner, step_id) for inner in value] if isinstance(value, list) else value


def _renamed(text: str, step_id: str) -> str:
    if "{{" not in text or step_id not in text:
        return text
    try:
        references = compile_template(text).references
    except ExpressionProblem:
        return text
    read = _reading(step_id)
    pieces: list[str] = []
    done = 0
    for reference in sorted(references, key=lambda found: found.start):
        older = read.match(text, reference.start, reference.end)
        if older is None:
            continue
        pieces += [text[done : older.start("read")], "input"]
        done = older.end("read")
        further = _FURTHER.match(text, done, reference.end)
        if further and "?" in older["read"]:
            # After an optional key each one may be missing; the input is there, so the next one says it.
            pieces.append(f"{further['selects']}?")
            done = further.end()
    return "".join([*pieces, text[done:]])


_FURTHER: Final = re.compile(r"(?P<selects>[\s)]*[.\[]\s*)\??")
"""How a selection goes on."""


def _reading(step_id: str) -> re.Pattern[str]:
    """What reads the output of the step, in every way to write a key."""

    def key(name: str) -> str:
        quoted = f"'{re.escape(name)}'|\"{re.escape(name)}\""
        return rf"\s*(?:\.\s*\??\s*{re.escape(name)}\b|\[\s*\??\s*(?:{quoted})\s*\])"

    return re.compile(rf"[\s(]*(?P<read>(?:steps|nodes){key(step_id)}{key('output')})")
