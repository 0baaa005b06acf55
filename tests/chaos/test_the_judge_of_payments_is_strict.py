"""The judge of the payments finds each way in which money can move twice, or a run can lie about it."""

from __future__ import annotations

import pytest

from tests.chaos.payment_verdict import End, judge
from tests.support.payments import Move

PAID = End("r1", "SUCCEEDED", receipt="p_2", claimed_by=("stripe", "paypal"))
VOID = End("r1", "SUCCEEDED", "p_2", ("capture s_1 is given back by refund re-s_1",), ("stripe", "paypal"))
PARKED = End("r1", "PARKED", claimed_by=("stripe",), shown=True, unresolved=True)
SILENT = End("r1", "PARKED", claimed_by=("stripe",), shown=True)


def charge(charge_id: str, provider: str = "stripe", key: str = "k1") -> Move:
    return Move("charge", provider, key, "o", charge_id)


def refund(charge_id: str) -> Move:
    return Move("refund", "stripe", "k1", "o", charge_id)


def test_one_charge_with_its_receipt_is_well():
    """Nothing is doubled, and nothing is void."""
    verdict = judge([charge("p_2")], {"o": PAID})
    assert (verdict.charges, verdict.voided, verdict.doubled, verdict.wrong) == (1, 0, (), ())


def test_what_was_voided_before_the_next_charge_is_listed_apart():
    """Two gross charges; one is void by the journal and given back by the ledger."""
    moves = [charge("s_1"), refund("s_1"), charge("p_2", "paypal", "k2")]
    verdict = judge(moves, {"o": VOID})
    assert (verdict.charges, verdict.voided, verdict.doubled, verdict.wrong) == (2, 1, (), ())


@pytest.mark.parametrize(
    "moves",
    [
        [charge("s_1"), charge("p_2", "paypal", "k2")],
        [charge("s_1"), charge("p_2", "paypal", "k2"), refund("s_1")],
        [charge("s_1"), charge("p_2")],
    ],
    ids=["two providers", "given back too late", "one key twice"],
)
@pytest.mark.parametrize("end", [PAID, VOID], ids=["paid", "void"])
def test_a_double_charge_is_found(moves: list[Move], end: End):
    """Also one that is given back afterwards, and one that the journal calls void."""
    assert judge(moves, {"o": end}).doubled == ("o",)


def test_a_refund_that_no_answer_speaks_of_takes_nothing_off():
    """Net it would be one charge."""
    moves = [charge("s_1"), refund("s_1"), charge("p_2", "paypal", "k2")]
    assert judge(moves, {"o": PAID}).doubled == ("o",)


@pytest.mark.parametrize(
    ("moves", "end", "words"),
    [
        ([], PAID, "nothing stands"),
        ([charge("s_1")], PAID, "paid by p_2"),
        ([charge("p_2"), refund("p_2")], PAID, "paid by p_2"),
        ([charge("s_1")], End("r1", "FAILED"), "nothing is paid"),
        ([charge("s_1")], End("r1", "FAILED", voided=("s_1 is canceled",)), "it stands"),
        ([charge("s_1")], End("r1", "PARKED", claimed_by=("stripe",)), "does not show why"),
        ([charge("p_1", "paypal")], PARKED, "without a claim"),
        ([charge("s_1")], SILENT, "does not say that this is not known"),
        ([], End("r1", "RUNNING"), "has not ended"),
        ([Move("charge", "stripe", "k", "x", "s_9")], End("r1", "FAILED"), "nobody asked for x"),
    ],
)
def test_a_lie_is_found(moves: list[Move], end: End, words: str):
    """Paid and not, not paid and yet, void and standing, parked in silence, never ended, never asked for."""
    assert words in "; ".join(judge(moves, {"o": end}).wrong)


def test_a_parked_payment_may_have_been_made_once():
    """Nobody knows, and that is said."""
    assert judge([charge("s_1")], {"o": PARKED}).wrong == ()
