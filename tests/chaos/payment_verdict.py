"""The verdict on payments: what the providers recorded, against what the runs say.

It counts gross: every charge that a provider has ever made is an effect, whatever became of it later. For
each order, that is for each run that pays once:

1. One key charges once at a provider.
2. At no moment, in the order in which the providers recorded it, do two charges of one order stand side by
   side: a charge is gone from the moment of its refund on and not before. So giving the money back afterwards
   hides no double charge.
3. A charge that is not the order's only one is VOIDED: the run's journal has that answer, with its id in the
   evidence, and the ledger has the refund. Those are listed apart, and nothing else is taken off.
4. Without what is VOIDED the run has made: exactly the charge whose receipt it gave, when it SUCCEEDED; none,
   when it FAILED; at most one, when it is PARKED, and then at the provider that claimed it, and the run shows
   the step, the claim and why. Quarantine is PARKED too. Nothing else is an end.
5. Nobody is charged who did not ask.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tests.support.payments import Move


@dataclass(frozen=True, slots=True)
class End:
    """What a run says of its payment."""

    run_id: str
    state: str
    receipt: str = ""
    """Id of the charge, when SUCCEEDED."""
    voided: tuple[str, ...] = ()
    """What the VOIDED answers of its journal say."""
    claimed_by: tuple[str, ...] = ()
    """Providers, first first."""
    shown: bool = False
    """PARKED, and the run tells why in words: what is not known, or that its orchestrators died around it."""
    unresolved: bool = False
    """The run names the step as one of whose effect nobody knows."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out."""

    charges: int
    """Gross."""
    voided: int
    """Of them, given back with proof before anybody else was asked."""
    doubled: tuple[str, ...]
    """Orders that were charged twice: rules 1 to 3."""
    wrong: tuple[str, ...]
    """Everything that breaks a rule, those included, in words."""


def judge(moves: Sequence[Move], ends: Mapping[str, End]) -> Verdict:
    """The verdict; `ends` by order."""
    by_order: dict[str, list[Move]] = defaultdict(list)
    for move in moves:
        by_order[move.order].append(move)
    doubled: list[str] = []
    wrong = [f"nobody asked for {order}" for order in by_order.keys() - ends.keys()]
    voided = 0
    for order, end in ends.items():
        mine = by_order[order]
        twice = [*_doubled(mine, end)]
        doubled += [order] if twice else []
        wrong += [f"{order}, run {end.run_id}: {words}" for words in (*twice, *_untrue(mine, end))]
        voided += len(_voided(mine, end))
    charges = sum(move.kind == "charge" for move in moves)
    return Verdict(charges, voided, tuple(doubled), tuple(wrong))


def _doubled(moves: Iterable[Move], end: End) -> Iterator[str]:
    keys: set[tuple[str, str]] = set()
    standing: set[str] = set()
    charges: list[str] = []
    for move in moves:
        if move.kind == "refund":
            standing.discard(move.id)
            continue
        if (move.provider, move.key) in keys:
            yield f"charged twice under one key, the second time as {move.id}"
        if standing:
            yield f"charged as {move.id} while {', '.join(standing)} stood"
        keys.add((move.provider, move.key))
        standing.add(move.id)
        charges.append(move.id)
    left = set(charges) - _voided(moves, end)
    if len(left) > 1:
        yield f"charged as {', '.join(sorted(left))}, and no answer in its journal says that one is void"


def _untrue(moves: Sequence[Move], end: End) -> Iterator[str]:
    charged = {move.id: move for move in moves if move.kind == "charge"}
    refunded = {move.id for move in moves if move.kind == "refund"}
    left = charged.keys() - _voided(moves, end)
    for each in charged:
        if each not in refunded and any(_names(words, each) for words in end.voided):
            yield f"says that {each} is void, and it stands"
    match end.state:
        case "SUCCEEDED":
            if left != {end.receipt} or end.receipt in refunded:
                yield f"says it is paid by {end.receipt or 'nothing'}, and {sorted(left) or 'nothing'} stands"
        case "FAILED":
            if left:
                yield f"says that nothing is paid, and {sorted(left)} is"
        case "PARKED":
            if not end.shown:
                yield "is parked, and does not show why"
            if left and not end.unresolved:
                yield f"is parked, {sorted(left)} stands, and it does not say that this is not known"
            strangers = {charged[each].provider for each in left} - {*end.claimed_by}
            if strangers:
                yield f"is parked, and {strangers} charged without a claim"
        case _:
            yield f"has not ended: {end.state}"


def _voided(moves: Iterable[Move], end: End) -> set[str]:
    """Charges that the journal calls void and the ledger given back."""
    back = {move.id for move in moves if move.kind == "refund"}
    return {each for each in back if any(_names(words, each) for words in end.voided)}


def _names(words: str, charge: str) -> bool:
    return re.search(rf"\b{re.escape(charge)}\b", words) is not None
