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

from tests.support.pausing_node import PausingNode, pausing_node
from tests.support.payments import Payments, running_payments
from tests.support.runs import ended
from tests.support.stack import Stack, running_stack

FLOW = "pay"
PATIENT = "patient"
"""The same, and an attempt may take long: what fails in it fails for the reason of the test."""
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
        patient = raw.replace(b"name: pay", b"name: patient").replace(b"attempt: 2s", b"attempt: 8s")
        for name, spec in ((FLOW, raw), (PATIENT, patient)):
            path = f"/api/flows/{name}?allow_missing=true"
            stack.rest("PUT", path, raw=spec, content_type="application/yaml").ok()
        yield stack


def pay(stack: Stack, order: str, flow: str = FLOW) -> str:
    """Begins a payment; the id of its run."""
    given = {"order": order, "amount": 1999, "source": SOURCE}
    return str(stack.rest("POST", f"/api/flows/{flow}/execute?request_id={order}", given).ok()["id"])


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


def moves(providers: Payments, order: str) -> list[tuple[str, str]]:
    """What the providers recorded of an order: charge or refund, and by whom."""
    return [(each.kind, each.provider) for each in providers.moves() if each.order == order]


def claimed_and_paused(stack: Stack, providers: Payments, node: PausingNode, fault: str) -> tuple[str, str]:
    """A payment that this process of Stripe's version has claimed, and not sent: its order, and its run.

    `fault` is what becomes of the first request for it. Which process gets a call is the mesh's to say, so
    some payments may go by the other one.
    """
    for number in range(20):
        order = f"sleepy-{fault}-{number}"
        providers.plan("stripe", fault)
        run_id = pay(stack, order, PATIENT)
        deadline = time.monotonic() + PATIENCE
        while not charged(providers, order):
            if node.stopped():
                return order, run_id
            assert time.monotonic() < deadline, stack.rest.get(f"/api/runs/{run_id}")
            time.sleep(0.02)
    raise AssertionError("no call came to the process")


def answers(stack: Stack, run_id: str) -> list[tuple[str, str]]:
    """What was answered about the payment: the question, and what is known."""
    told = (charge_step(stack, run_id).get("evidence") or {}).get("answers", [])
    return [(each["question"], each["knowledge"]) for each in told if each.get("answered")]


def wake(node: PausingNode, providers: Payments) -> None:
    """Wakes the process up, until what it had claimed has reached Stripe."""
    before = providers.requests("stripe")
    node.go_on()
    deadline = time.monotonic() + PATIENCE
    while providers.requests("stripe") == before:
        assert time.monotonic() < deadline, f"{node.version} has sent nothing"
        time.sleep(0.05)


def come_back(stack: Stack, route: dict[str, Any]) -> None:
    """Ends the ejections of Stripe's version: with other settings the mesh counts anew."""
    targets = route["targets"]
    for ejection in ({"consecutive": 6}, {}):
        first = {**targets[0], "ejection": ejection or None}
        given = {"targets": [{k: v for k, v in first.items() if v}, *targets[1:]]}
        stack.rest("PUT", "/api/routes/payment.charge", given).ok()


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


def test_who_sleeps_after_its_claim_is_followed_only_once_its_charge_is_void(
    stack: Stack, providers: Payments
):
    """A claims and is paused before it sends; Stripe answers nobody, and its search shows nothing at first.

    PayPal is asked after Stripe's charge was found and given back, not before; then A wakes up and sends: the
    key is used up, and nothing moves.
    """
    with pausing_node(stack, "payment.charge@stripe", providers.environment, stops=1) as node:
        order, run_id = claimed_and_paused(stack, providers, node, "hidden")
        while len(answers(stack, run_id)) < 4:
            assert ("charge", "paypal") not in moves(providers, order)
            assert stack.rest.get(f"/api/runs/{run_id}")["state"] == "RUNNING"
            time.sleep(0.1)
        assert moves(providers, order) == [("charge", "stripe")], charge_step(stack, run_id)
        providers.show()
        run = settled(stack, run_id)
        assert run["state"] == "SUCCEEDED", charge_step(stack, run_id)
        before = moves(providers, order)
        wake(node, providers)
        assert moves(providers, order) == before
    assert before == [("charge", "stripe"), ("refund", "stripe"), ("charge", "paypal")]
    step = charge_step(stack, run_id)
    told = answers(stack, run_id)
    assert told[:4] == [("verify", "UNKNOWN")] * 4
    assert told[-1] == ("cancel", "VOIDED")
    assert {each["answered_by"] for each in step["attempts"][:-1]} == {"stripe"}
    assert (step["attempts"][-1]["outcome"], step["attempts"][-1]["answered_by"]) == ("DONE", "paypal")


def test_who_sleeps_after_its_claim_and_wakes_up_late_repeats_the_same_payment(
    stack: Stack, providers: Payments
):
    """A claims and is paused; another process of Stripe's version pays with the same key. A sends then."""
    with pausing_node(stack, "payment.charge@stripe", providers.environment, stops=1) as node:
        order, run_id = claimed_and_paused(stack, providers, node, "ok")
        assert settled(stack, run_id)["state"] == "SUCCEEDED"
        assert moves(providers, order) == [("charge", "stripe")]
        wake(node, providers)
        assert moves(providers, order) == [("charge", "stripe")]
    attempts = charge_step(stack, run_id)["attempts"]
    assert (attempts[0]["outcome"], attempts[0]["claimed"]) == ("AMBIGUOUS", True)
    assert attempts[-1]["outcome"] == "DONE"


def test_an_ejected_provider_is_passed_over_at_once(stack: Stack, providers: Payments):
    """Five outages in a row eject Stripe's version; while it is out nobody asks it, though Stripe is well."""
    route = stack.rest.get("/api/routes/payment.charge")
    providers.refuse("stripe")
    try:
        for number in range(12):
            run_id = pay(stack, f"ejecting-{number}")
            assert settled(stack, run_id)["state"] == "SUCCEEDED"
            if charge_step(stack, run_id)["attempts"][0]["reason"] == "ejected":
                break
        else:
            raise AssertionError("Stripe's version was not ejected")
        providers.refuse("stripe", refusing=False)
        run_id = pay(stack, "ejected")
        assert settled(stack, run_id)["state"] == "SUCCEEDED"
    finally:
        providers.refuse("stripe", refusing=False)
        come_back(stack, route)
    (attempt,) = charge_step(stack, run_id)["attempts"]
    told = (attempt["outcome"], attempt["chosen"], attempt["answered_by"], attempt["reason"])
    assert told == ("DONE", "stripe", "paypal", "ejected")
    assert charged(providers, "ejected") == ["paypal"]
    (claim,) = charge_step(stack, run_id)["evidence"]["claims"]
    assert claim["node_version"] == "payment.charge@paypal"


def test_a_payment_is_given_back_once_when_its_flow_fails_later(stack: Stack, providers: Payments):
    """`compensate` undoes the charge at the provider that took it, here PayPal; the reply is lost, and the
    same key asks again: one refund.
    """
    charge = {
        "id": "charge",
        "node": "payment.charge",
        "route": {"versions": {"paypal": 10_000}},
        "with": {
            "amount": 1999,
            "currency": "USD",
            "source": "{{ input.source }}",
            "description": "{{ input.order }}",
        },
        "timeout": {"attempt": "2s"},
        "compensate": {"node": "payment.refund", "with": "{{ self.output }}"},
    }
    out_of_stock = {"id": "ship", "fail": {"message": "out of stock"}}
    spec = {"steps": [charge, out_of_stock]}
    stack.rest("PUT", "/api/flows/order?allow_missing=true", {"name": "order", "spec": spec}).ok()
    providers.plan("paypal:refund", "lose")
    given = {"order": "returned", "source": SOURCE}
    run_id = stack.rest.post("/api/flows/order/execute", given)["id"]
    assert settled(stack, run_id)["state"] == "FAILED"
    assert moves(providers, "returned") == [("charge", "paypal"), ("refund", "paypal")]
    steps = stack.rest.get(f"/api/runs/{run_id}/steps")["steps"]
    undone = next(step for step in steps if step.get("compensates") == "charge")
    assert undone["state"] == "SUCCEEDED"
    assert undone["output"]["provider"] == "paypal"
    assert [each["outcome"] for each in undone["attempts"]] == ["AMBIGUOUS", "DONE"]
