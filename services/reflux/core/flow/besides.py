"""What may stand beside an action: keys that change what a step gives, or what may be done about it.

    result: "{{ self.output.body }}"     maps what the action gave: others see what this gives
    effect: idempotent                   a stronger class than the node's own, for this call

`result` of a loop means a value for each iteration, or of the last one, and is read with it (`actions`). The
others see `self`: the step as expressions see it once it has settled, its output not yet mapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from reflux.core.effect import EffectClass

if TYPE_CHECKING:
    from reflux.core.flow.problems import Place
    from reflux.core.flow.steps import Draft, StepReader

SELF: Final = "self"
LOOPS: Final = ("foreach", "while")


def read_besides(steps: StepReader, place: Place, draft: Draft, kind: str | None) -> dict[str, Any]:
    """The fields of a step that its keys beside the action give; which keys fit it is judged before."""
    reader = steps.reader
    fields: dict[str, Any] = {}
    result = reader.optional(place, "result")
    if result is not None and kind is not None and kind not in LOOPS:
        fields["result"] = steps.template(result, draft, roots=(SELF,), inside=True)
    effect = reader.optional(place, "effect")
    if effect is not None and kind == "node":
        fields["effect"] = reader.choice(effect, EffectClass, EffectClass.AT_MOST_ONCE)
    return fields
