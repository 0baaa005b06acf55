"""The claim: who may act on the outside world for an attempt.

Asked right before the effect; granted only once it is journaled. The rules:

- The attempt must be the one in flight, and nothing may be ending it: a cancel, a failure beside it, a
  takeover.
- `at_most_once`: the first execution wins; asked again by the same one, the same answer.
- `idempotent`, `compensatable`: the first claim binds the attempt to its scope; within that scope any
  execution may act, because the key makes the effect one. An attempt that asks again for an ambiguous effect
  is bound from the start to the scope that claimed it.
- `pure` calls claim nothing.
"""

from enum import Enum, auto

from reflux.core.effect import EffectClass
from reflux.core.event import EffectClaimed
from reflux.core.state import RunState


class Verdict(Enum):
    """What becomes of a claim."""

    RECORD = auto()
    """Journal it, then grant it."""
    GRANTED = auto()
    """It holds already, once the claim it repeats is durable."""
    REFUSED = auto()


def judge(state: RunState, claim: EffectClaimed) -> tuple[Verdict, str]:
    """The verdict, and why when it is REFUSED."""
    run = state.steps.get(claim.step)
    if run is None or run.flight is None or run.flight.started.attempt != claim.attempt:
        return Verdict.REFUSED, f"attempt {claim.attempt} of step {claim.step} is not in flight any more"
    if state.finished or run.ending:
        return Verdict.REFUSED, f"step {claim.step} is being given up"
    effect = run.flight.started.assignment.effect
    if effect is EffectClass.PURE:
        return Verdict.REFUSED, f"step {claim.step} was started as a pure call"
    former = run.flight.claim
    if former is None:
        last = next(reversed(run.claims.values()), None) if run.unresolved else None
        if last is not None and last.scope != claim.scope:
            return Verdict.REFUSED, f"the effect is ambiguous in scope {last.scope!r}, and bound to it"
        return Verdict.RECORD, ""
    if former.execution_id == claim.execution_id:
        return Verdict.GRANTED, ""
    if effect is EffectClass.AT_MOST_ONCE:
        return Verdict.REFUSED, f"another execution has claimed attempt {claim.attempt} of step {claim.step}"
    if former.scope != claim.scope:
        return Verdict.REFUSED, f"the attempt is bound to scope {former.scope!r}"
    return Verdict.GRANTED, ""
