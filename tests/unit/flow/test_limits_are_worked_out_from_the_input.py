"""What a run asks for before it may begin is worked out once, from its input and the flow's vars."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from reflux.core.errors import InvalidArgument
from reflux.core.flow.limits import (
    NO_CLAIM,
    NO_LIMITS,
    Claim,
    Overflow,
    RateClaim,
    RateOverflow,
    Said,
    SlotClaim,
    claim_of,
)
from reflux.core.reasons import Reason
from tests.support.walk import flow_of, node

if TYPE_CHECKING:
    from reflux.core.document import JsonValue


def claim(given: JsonValue, variables: dict[str, JsonValue] | None = None, **policies: Any) -> Claim:
    """What a run of a flow with these policies asks for."""
    return claim_of(given, said(variables, **policies))


def said(variables: dict[str, JsonValue] | None = None, version: int = 0, **policies: Any) -> Said:
    """What a version with these policies says."""
    flow = flow_of(node("a"), policies=policies, vars=variables or {})
    return Said(flow.limits, flow.vars, version)


def test_a_flow_without_limits_asks_for_nothing():
    """And nothing is evaluated for it."""
    assert flow_of(node("a"), policies={"timeout": "1h"}).limits is NO_LIMITS
    assert claim({}, timeout="1h") is NO_CLAIM


def test_everything_a_flow_can_say():
    """Each limit with its own key, over the input and the vars."""
    asked = claim(
        {"shop": "s7", "urgency": 9},
        {"region": "eu"},
        concurrency={"key": "{{ vars.region }}/{{ input.shop }}", "limit": 3, "overflow": "cancel_oldest"},
        rate={"key": "{{ input.shop }}", "limit": 5, "per": "1m", "overflow": "reject"},
        priority="{{ input.urgency }}",
    )
    assert asked == Claim(
        9,
        SlotClaim("eu/s7", 3, Overflow.CANCEL_OLDEST),
        RateClaim("s7", 5, timedelta(minutes=1), RateOverflow.REJECT),
    )


def test_what_a_flow_does_not_say():
    """It queues, all its runs share, and nobody is first."""
    asked = claim({}, concurrency={"limit": 3}, rate={"limit": 5, "per": "1s"})
    assert asked == Claim(
        5, SlotClaim("", 3, Overflow.QUEUE), RateClaim("", 5, timedelta(seconds=1), RateOverflow.QUEUE)
    )


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("a", "a"),
        (7, "7"),
        (7.0, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_key_is_a_text_a_number_or_a_bool(value, key):
    """Kept as its text."""
    slot = claim({"k": value}, concurrency={"key": "{{ input.k }}", "limit": 1}).slot
    assert slot is not None
    assert slot.key == key


@pytest.mark.parametrize("value", [None, [], {}, "", "x" * 201, "a\0b"])
def test_any_other_key_is_refused(value):
    """An error that names the policy: a run without its key would escape the limit."""
    with pytest.raises(InvalidArgument, match=r"policies\.rate") as refused:
        claim({"k": value}, rate={"key": "{{ input.k }}", "limit": 1, "per": "1s"})
    assert refused.value.reason is Reason.ARGUMENT_INVALID


@pytest.mark.parametrize("value", [-1, 10, 2.5, True, "5", None])
def test_any_other_priority_is_refused(value):
    """0 to 9, whole."""
    with pytest.raises(InvalidArgument, match=r"policies\.priority"):
        claim({"p": value}, priority="{{ input.p }}")


def test_what_cannot_be_evaluated_says_where():
    """With the place of the expression, as everywhere."""
    with pytest.raises(InvalidArgument, match=r"policies\.concurrency .*shop") as refused:
        claim({}, concurrency={"key": "{{ input.shop }}", "limit": 1})
    assert refused.value.reason is Reason.EXPRESSION_FAILED


SLOT: Any = {"limit": 1}
RATE: Any = {"limit": 5, "per": "1s"}
BY_SHOP: Any = {"key": "{{ input.shop }}"}
ONE_SLOT = SlotClaim("", 1, Overflow.QUEUE)
FIVE_RUNS = RateClaim("", 5, timedelta(seconds=1), RateOverflow.QUEUE)


@pytest.mark.parametrize(
    ("newest", "own", "asked"),
    [
        ({"concurrency": SLOT, "priority": "{{ input.new }}"}, {}, Claim(5, ONE_SLOT, None, 2)),
        ({"concurrency": SLOT, "priority": "{{ input.new }}"}, {"priority": 9}, Claim(9, ONE_SLOT, None, 2)),
        ({"concurrency": SLOT, "rate": RATE | BY_SHOP}, {}, Claim(5, ONE_SLOT, None, 1)),
        (
            {"concurrency": SLOT | BY_SHOP, "rate": RATE},
            {"concurrency": SLOT},
            Claim(5, ONE_SLOT, FIVE_RUNS, 1),
        ),
        ({}, {"concurrency": SLOT}, NO_CLAIM),
    ],
)
def test_what_an_input_of_before_does_not_give_loosens_no_other_limit(
    newest: dict[str, Any], own: dict[str, Any], asked: Claim
) -> None:
    """Only what cannot be worked out of it is as the run's own version says."""
    assert claim_of({}, said(version=2, **newest), said(version=1, **own)) == asked
