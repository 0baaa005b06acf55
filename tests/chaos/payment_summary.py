"""What the runs of the payments say, and the table at the end: how they ended, what they met on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.payment_verdict import End

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.payment_storm import Broken
    from tests.chaos.payment_verdict import Verdict

STEP = "charge"


@dataclass(slots=True)
class Met:
    """What the attempts met, as their journals tell it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """How runs ended, and by what way."""
    faults: Counter[str] = field(default_factory=Counter)
    """Attempts by what happened to them."""
    answers: Counter[str] = field(default_factory=Counter)
    """Of questions about effects of which nobody knew."""


def end_of(run: Mapping[str, Any], step: Mapping[str, Any] | None) -> End:
    """What a run says of its payment: the run, and its step that pays."""
    if step is None:
        return End(run["id"], run["state"])
    claims = (step.get("evidence") or {}).get("claims", [])
    why = (run.get("waiting") or {}).get("why", "")
    told = "claimed it in scope" in why or "a person must look at it" in why
    unresolved = run.get("unresolved_effects") == [STEP]
    shown = told and (unresolved or _quarantined(run))
    return End(
        run["id"],
        run["state"],
        receipt=(step.get("output") or {}).get("id", "") if run["state"] == "SUCCEEDED" else "",
        voided=tuple(each["detail"] for each in _answers(step) if each["knowledge"] == "VOIDED"),
        claimed_by=tuple(dict.fromkeys(each["node_version"].rpartition("@")[2] for each in claims)),
        shown=shown,
        unresolved=unresolved,
    )


def meet(met: Met, run: Mapping[str, Any], step: Mapping[str, Any] | None) -> None:
    """Counts what a run met."""
    attempts = step["attempts"] if step is not None else []
    met.outcomes[f"{run['state']}{_way(run, step, attempts)}"] += 1
    for each in attempts:
        for fault in _faults(each):
            met.faults[fault] += 1
    for each in _answers(step or {}):
        spoken = each["knowledge"] if each.get("answered") else "no answer"
        met.answers[f"{each['question']}: {spoken}"] += 1


def table(title: str, rows: Mapping[str, object]) -> str:
    """Lines of a table."""
    width = max(len(name) for name in rows)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows.items()]
    return "\n".join([title, *lines])


def summary(
    *,
    payments: int,
    verdict: Verdict,
    met: Met,
    dealt: Counter[str],
    broken: Broken,
    seconds: float,
) -> str:
    """The whole of it."""
    parked = sum(count for name, count in met.outcomes.items() if name.startswith("PARKED"))
    whole = {
        "payments": payments,
        "charges, gross": verdict.charges,
        "of them VOIDED": verdict.voided,
        "doubled": len(verdict.doubled),
        "parked": parked,
        "otherwise wrong": len(verdict.wrong),
        "minutes": f"{seconds / 60:.1f}",
    }
    parts = {
        "how they ended": met.outcomes,
        "faults of providers, by key": dealt,
        "what attempts met": met.faults,
        "questions": met.answers,
        "broken": broken.done,
    }
    tables = [table(title, dict(counts.most_common())) for title, counts in parts.items() if counts]
    return "\n".join([table("payments under faults", whole), *tables])


def _answers(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = (step.get("evidence") or {}).get("answers", [])
    return answers


def _quarantined(run: Mapping[str, Any]) -> bool:
    return bool((run.get("error") or {}).get("reason") == "QUARANTINED")


def _way(run: Mapping[str, Any], step: Mapping[str, Any] | None, attempts: list[dict[str, Any]]) -> str:
    """By which way it got to its end, in a few words."""
    if run["state"] == "FAILED":
        return f" {(run.get('error') or {}).get('reason', '')}"
    if run["state"] == "PARKED" and _quarantined(run):
        return ", its orchestrators died around it"
    if run["state"] != "SUCCEEDED" or step is None:
        return ""
    known = {each["knowledge"] for each in _answers(step)}
    outcomes = {each["outcome"] for each in attempts}
    for word, is_so in (
        ("after VOIDED, by another", "VOIDED" in known),
        ("found by verify", "FOUND" in known),
        ("asked again with its key", "AMBIGUOUS" in outcomes),
        ("by the next provider", attempts[-1]["reason"] in {"fallback", "ejected"}),
        ("sent again", len(attempts) > 1),
    ):
        if is_so:
            return f" {word}"
    return " at once"


def _faults(attempt: Mapping[str, Any]) -> list[str]:
    told = ["version ejected, passed over"] if attempt["reason"] == "ejected" else []
    if attempt["outcome"] == "DONE":
        return told
    reason = (attempt.get("error") or {}).get("reason", "")
    claimed = "claimed" if attempt.get("claimed") else "unclaimed"
    return [*told, f"{attempt['outcome']}, {claimed}, {reason or 'no reason'}"]
