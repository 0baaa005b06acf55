"""What is known of an effect of which nobody knows, for the person who decides about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reflux.core.event import Knowledge, Outcome
from reflux.core.resolving import is_forgotten, version_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from reflux.core.state import StepRun


def evidence(run: StepRun, stamp: Callable[[datetime | None], str | None]) -> dict[str, Any] | None:
    """An EffectEvidence: every claim of the step, and every answer about its effects; None without any."""
    if not run.claims and not run.answers:
        return None
    return {
        "claims": [
            {
                "attempt": claim.attempt,
                "node_version": claim.node_version,
                "scope": claim.scope,
                "execution_id": claim.execution_id,
            }
            for claim in run.claims.values()
        ],
        "answers": [
            {
                "attempt": each.attempt,
                "question": each.question.value,
                "knowledge": each.knowledge.value,
                "detail": each.detail,
                "answered": each.answered,
                "time": stamp(each.time),
            }
            for each in run.answers
        ],
    }


def why_parked(run: StepRun) -> str:
    """In a sentence: who claimed it, how often it was asked for, and what was last said about it."""
    said = "a person must say what became of its effect"
    last = run.unresolved
    if last is None:
        return said
    claim = next(reversed(run.claims.values()), None)
    who = claim.node_version if claim is not None else version_of(last.assignment)
    where = f" in scope {claim.scope}" if claim is not None and claim.scope else ""
    asked = sum(
        each.outcome is Outcome.AMBIGUOUS and each.generation == run.generation for each in run.finished
    )
    times = "once" if asked == 1 else f"{asked} times"
    parts = [
        f"{said}: {who or 'a node version'} claimed it{where} and was asked for it {times} without an answer"
    ]
    attempts = {each.attempt for each in run.finished if each.generation == run.generation}
    answers = [each for each in run.answers if each.attempt in attempts]
    for question in dict.fromkeys(each.question for each in answers):
        those = [each for each in answers if each.question is question]
        spoken = those[-1].knowledge if those[-1].answered else Knowledge.UNKNOWN
        parts.append(f"{question}, asked {len(those)} times, says {spoken}: {those[-1].detail}")
    if answers and is_forgotten(run, answers[-1].time):
        parts.insert(1, "its key may be forgotten by the provider, so nothing is sent under it any more")
    return "; ".join(parts)[:2_000]


def why_asking(run: StepRun) -> str | None:
    """Why the step waits while it, or what is asked next, is a question; None when it is none."""
    if run.asking is not None:
        return f"{run.asking.node_version} is asked about its effect: {run.asking.question}"
    if run.next_question is not None:
        return f"nobody knows what became of its effect; its version will be asked: {run.next_question}"
    return None
