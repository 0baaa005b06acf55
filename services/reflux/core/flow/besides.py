"""What may stand beside an action: keys that change what a step gives, or what may be done about it.

    result: "{{ self.output.body }}"     maps what the action gave: others see what this gives
    effect: idempotent                   a stronger class than the node's own, for this call
    cache: { ttl: 10m, key: "{{ … }}" }  uses an output of the same input, or key, again
    compensate: { node, with }           undoes the step when the run ends badly (`reflux.core.compensation`)
    route: { pin, versions, sticky, … }  how its calls find a version (`steproute`)

`result` of a loop means a value for each iteration, or of the last one, and is read with it (`actions`). The
others see `self`: the step as expressions see it once it has settled, its output not yet mapped.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from reflux.core.effect import EffectClass
from reflux.core.flow import actions
from reflux.core.flow.model import Cache, NodeAction, OnError, Retry
from reflux.core.flow.policies import read_retry, read_timeouts
from reflux.core.flow.problems import ProblemCode
from reflux.core.flow.steproute import read_step_route
from reflux.core.names import UNDO, StepPath

if TYPE_CHECKING:
    from reflux.core.flow.model import Action, Step
    from reflux.core.flow.problems import Place
    from reflux.core.flow.steps import Draft, StepReader

SELF: Final = "self"
LOOPS: Final = ("foreach", "while")
SHORTEST_TTL: Final = timedelta(seconds=1)
LONGEST_TTL: Final = timedelta(days=30)
UNDO_RETRY: Final = Retry(attempts=5)
"""Of a compensation that names none: what was done should not stay for one refused connection."""


def read_besides(
    steps: StepReader, place: Place, draft: Draft, kind: str | None, action: Action
) -> dict[str, Any]:
    """The fields of a step that its keys beside the action give; which keys fit it is judged before."""
    reader = steps.reader
    fields: dict[str, Any] = {}
    result = reader.optional(place, "result")
    if result is not None and kind is not None and kind not in LOOPS:
        fields["result"] = steps.template(result, draft, roots=(SELF,), inside=True)
    effect = reader.optional(place, "effect")
    if effect is not None and kind == "node":
        fields["effect"] = reader.choice(effect, EffectClass, EffectClass.AT_MOST_ONCE)
    cache = reader.optional(place, "cache")
    if cache is not None and kind == "node":
        fields["cache"] = _cache(steps, cache, draft, fields.get("effect"))
    route = reader.optional(place, "route")
    if route is not None and kind == "node":
        found = fields["route"] = read_step_route(steps, route, draft, action)
        if found is not None and found.pin is not None and isinstance(action, NodeAction):
            fields["action"] = replace(action, version=found.pin)
    undo = reader.optional(place, "compensate")
    if undo is not None and kind is not None and "compensate" in actions.KEYS_OF.get(kind, ()):
        fields["compensation"] = _compensation(steps, undo, draft, kind)
    return fields


def _cache(steps: StepReader, place: Place, draft: Draft, effect: EffectClass | None) -> Cache:
    """How outputs are used again. Whether the node is pure is known to the mesh, and asked by `plan`."""
    reader = steps.reader
    reader.known_keys(place, ("ttl", "key"))
    ttl, key = reader.required(place, "ttl"), reader.optional(place, "key")
    length = None if ttl is None else reader.duration(ttl, SHORTEST_TTL, LONGEST_TTL)
    if effect not in (None, EffectClass.PURE):
        message = f"only a pure call may be answered from a cache, and this one is {effect}"
        reader.problems.add(ProblemCode.CACHE_NOT_PURE, place, message, "remove cache")
    return Cache(length or SHORTEST_TTL, None if key is None else steps.template(key, draft))


def _compensation(steps: StepReader, place: Place, draft: Draft, kind: str) -> Step | None:
    """What undoes the step: the call of a node, with a retry of its own."""
    reader = steps.reader
    reader.known_keys(place, ("node", "with", "retry", "timeout", "effect"))
    called = reader.required(place, "node")
    if called is None:
        return None
    retry, effect = reader.optional(place, "retry"), reader.optional(place, "effect")
    step = replace(
        draft.step,
        path=StepPath(draft.step.path + UNDO),
        pointer=f"{draft.step.pointer}/compensate",
        retry=UNDO_RETRY if retry is None else read_retry(reader, retry),
        timeout=read_timeouts(reader, reader.optional(place, "timeout"), container=False),
        on_error=OnError.CONTINUE,
        disabled=False,
        cache=None,
        route=None,
        effect=None if effect is None else reader.choice(effect, EffectClass, EffectClass.AT_MOST_ONCE),
    )
    own = replace(draft, step=step, place=place, reads=[])
    action = actions.READERS["node"](steps, called, own)
    # A loop is over long before: its iterations, and their steps, are not there any more.
    draft.reads += [
        replace(read, roots=frozenset({SELF, "error"}), inside=kind not in LOOPS) for read in own.reads
    ]
    return replace(step, action=action)
