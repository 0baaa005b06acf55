"""Failover between payment providers: at once where surely nothing happened, never where nobody knows.

The judge is what the providers recorded. Stripe takes every payment, PayPal and Square are its chain.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.payments import Payments, running_payments
from tests.support.runs import ended
from tests.support.stack import Stack, running_stack

FLOW = "pay"
EXAMPLE = Path(__file__).parents[1] / "examples" / "pay.yaml"
SOURCE = {"stripe": "pm_card_visa", "paypal": "vault-1", "square": "ccof:1"}
PATIENCE = 90.0


@pytest.fixture(scope="module")
def providers() -> Iterator[Payments]:
    """The outside world."""
    with running_payments() as payments:
        yield payments


@pytest.fixture(scope="module")
def stack(providers: Payments, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose payment nodes know these providers, with the example flow that pays."""
    data = tmp_path_factory.mktemp("payments") / "data"
    with running_stack(data, environment=providers.environment) as stack:
        raw = EXAMPLE.read_bytes()
        path = f"/api/flows/{FLOW}?allow_missing=true"
        stack.rest("PUT", path, raw=raw, content_type="application/yaml").ok()
        yield stack


def pay(stack: Stack, order: str) -> str:
    """Begins a payment; the id of its run."""
    given = {"order": order, "amount": 1999, "source": SOURCE}
    return str(stack.rest("POST", f"/api/flows/{FLOW}/execute?request_id={order}", given).ok()["id"])


def settled(stack: Stack, run_id: str) -> dict[str, Any]:
    """The run once nothing more happens to it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        run: dict[str, Any] = stack.rest.get(f"/api/runs/{run_id}")
        if run["state"] in {"SUCCEEDED", "FAILED", "PARKED"}:
            return run
        time.sleep(0.1)
    raise AssertionError(f"run {run_id} goes on and on: {run}")


def charge_step(stack: Stack, run_id: str) -> Any:
    """The step that pays."""
    steps = stack.rest.get(f"/api/runs/{run_id}/steps")["steps"]
    return next(step for step in steps if step["id"] == "charge")


def charged(providers: Payments, order: str) -> list[str]:
    """Who took money for an order."""
    return [each["provider"] for each in providers.charges(order)]


def test_a_provider_that_refuses_connections_is_followed_at_once(stack: Stack, providers: Payments):
    """Claimed, not connected, so nothing was sent: PayPal is asked, and the journal says why."""
    providers.refuse("stripe")
    try:
        run_id = pay(stack, "refused")
        run = settled(stack, run_id)
    finally:
        providers.refuse("stripe", refusing=False)
    assert run["state"] == "SUCCEEDED", run
    assert charged(providers, "refused") == ["paypal"]
    first, second = charge_step(stack, run_id)["attempts"]
    assert (first["outcome"], first["answered_by"], first["claimed"]) == ("NO_EFFECT", "stripe", True)
    assert (second["outcome"], second["answered_by"], second["reason"]) == ("DONE", "paypal", "fallback")


def test_a_provider_that_is_limited_is_followed_at_once(stack: Stack, providers: Payments):
    """429 came before anything was processed."""
    providers.plan("stripe", "limited")
    run_id = pay(stack, "limited")
    assert settled(stack, run_id)["state"] == "SUCCEEDED"
    assert charged(providers, "limited") == ["paypal"]


def test_a_decline_is_no_outage(stack: Stack, providers: Payments):
    """The step fails, and nobody else is asked."""
    providers.plan("stripe", "decline")
    run_id = pay(stack, "declined")
    run = settled(stack, run_id)
    assert (run["state"], run["error"]["reason"]) == ("FAILED", "PROVIDER_DECLINED")
    assert charged(providers, "declined") == []


@pytest.mark.parametrize("fault", ["lose", "hang", "late", "broken"])
def test_what_may_have_been_charged_stays_with_its_provider(stack: Stack, providers: Payments, fault: str):
    """Asked again under the same key, or found by it: one charge, by Stripe, and none by anybody else."""
    providers.plan("stripe", fault)
    run_id = pay(stack, fault)
    run = settled(stack, run_id)
    assert run["state"] == "SUCCEEDED", run
    assert charged(providers, fault) == ["stripe"]
    attempts = charge_step(stack, run_id)["attempts"]
    assert attempts[0]["outcome"] == "AMBIGUOUS"
    kinds = [event["kind"] for event in stack.rest.get(f"/api/runs/{run_id}/events?page_size=1000")["events"]]
    # Stripe repeats its 500 for ever, so only its search can tell.
    assert ("EffectAnswered" in kinds) == (fault == "broken"), kinds


def test_what_nobody_can_say_is_parked_with_the_evidence(stack: Stack, providers: Payments):
    """Stripe has charged and says so to nobody: no other provider, and a person is told what is known."""
    providers.plan("stripe", "dead")
    run_id = pay(stack, "dead")
    run = settled(stack, run_id)
    assert run["state"] == "PARKED"
    assert charged(providers, "dead") == ["stripe"]
    why = charge_step(stack, run_id)["waiting"]["why"]
    assert "stripe" in why
    assert "verify" in why
    assert "proves nothing" in why
    said = {"choice": "confirm", "output": {"id": "pi_1"}, "reason": "it is in the dashboard"}
    stack.rest("POST", f"/api/runs/{run_id}/steps/charge:complete", said).ok()
    assert ended(stack.rest, run_id)["state"] == "SUCCEEDED"
    assert charged(providers, "dead") == ["stripe"]


def test_a_node_that_is_paused_after_its_claim_is_not_followed(stack: Stack, providers: Payments):
    """Its deadline passes while nobody can say whether it has sent: it may still wake up, and it does."""
    providers.plan("stripe", "hang")
    run_id = pay(stack, "paused")
    deadline = time.monotonic() + PATIENCE
    while not charged(providers, "paused"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = stack.pid("nodes")
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(3)
        assert charged(providers, "paused") == ["stripe"]
        assert stack.rest.get(f"/api/runs/{run_id}")["state"] in {"RUNNING", "PARKED"}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert settled(stack, run_id)["state"] in {"SUCCEEDED", "PARKED"}
    assert charged(providers, "paused") == ["stripe"]
