"""Payments under random faults, and kills of everything: one effect each, or PARKED and shown.

The judge is what the providers recorded. Some hundred payments by default; `make payments` makes 10,000.
The schedule follows a seed, which is printed: PAYMENTS_SEED plays it again.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support.payments import PROVIDERS, Payments, running_payments
from tests.support.rest import Rest
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.timeout(7200)

PAYMENTS = int(os.environ.get("PAYMENTS", "200"))
SEED = int(os.environ.get("PAYMENTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
AT_ONCE = 24
ODDS = {
    "limited": 0.05,
    "decline": 0.03,
    "lose": 0.08,
    "late": 0.03,
    "hang": 0.02,
    "broken": 0.04,
    "dead": 0.01,
}
SETTLED = {"SUCCEEDED", "FAILED", "PARKED"}
PATIENCE = 240.0
"""Seconds that a run may take once nothing breaks any more."""
LATEST = 3.0
"""Seconds after which no charge is still on its way."""


@contextmanager
def faults(stack: Stack, providers: Payments, chance: random.Random) -> Iterator[Counter[str]]:
    """Something breaks every second or two until the block ends; then all of it is well again."""
    done, over = Counter[str](), threading.Event()

    def breaking() -> None:
        while not over.wait(chance.uniform(0.5, 2.5)):
            what = chance.choice(["orchestrator", "envoy", "nodes", *PROVIDERS, *PROVIDERS])
            done[what] += 1
            if what in PROVIDERS:
                providers.refuse(what)
                over.wait(chance.uniform(0.1, 1.5))
                providers.refuse(what, refusing=False)
            elif stack.pid(what):
                try:
                    stack.kill(what)
                except (ProcessLookupError, AssertionError):
                    continue  # it has not come back from the last time

    thread = threading.Thread(target=breaking)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def begin(rest: Rest, number: int) -> tuple[str, str]:
    """Begins a payment, asked for until somebody answers; its order, and the id of its run."""
    order = f"order-{number}"
    given = {"order": order, "amount": 100 + number}
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            answer = rest("POST", f"/api/flows/pay/execute?request_id={order}", given, seconds=10)
            if answer.status == 200:
                return order, str(answer.json["id"])
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError("nothing is accepted any more")


def settle(rest: Rest, run_id: str) -> str:
    """The state of a run once nothing more happens to it."""
    deadline, last = time.monotonic() + PATIENCE, ""
    while time.monotonic() < deadline:
        try:
            answer = rest("GET", f"/api/runs/{run_id}", seconds=10)
            if answer.status == 200:
                last = answer.json["state"]
                if last in SETTLED:
                    return str(last)
        except OSError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"run {run_id} is still {last}")


def save(rest: Rest) -> None:
    """The flow that pays."""
    step = {
        "id": "charge",
        "node": "payment.charge",
        "with": {
            "amount": "{{ input.amount }}",
            "currency": "USD",
            "source": {"stripe": "pm_1", "paypal": "vault-1", "square": "ccof:1"},
            "description": "{{ input.order }}",
        },
        "timeout": {"attempt": "2s"},
        "retry": {"attempts": 5, "delay": "500ms", "on": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]},
    }
    rest("PUT", "/api/flows/pay?allow_missing=true", {"name": "pay", "spec": {"steps": [step]}}).ok()
    targets = [
        {"version": "stripe", "weight": 5000, "fallback": ["paypal", "square"]},
        {"version": "paypal", "weight": 3000, "fallback": ["square", "stripe"]},
        {"version": "square", "weight": 2000, "fallback": ["stripe", "paypal"]},
    ]
    rest("PUT", "/api/routes/payment.charge", {"targets": targets}).ok()


def judge(stack: Stack, providers: Payments, ends: dict[str, tuple[str, str]]) -> Counter[str]:
    """How the payments ended.

    Raises:
        AssertionError: one moved money twice, or says something else than what happened.
    """
    effects = providers.effects()
    double = {order: number for order, number in effects.items() if number > 1}
    assert not double, f"seed {SEED}: paid more than once: {double}"
    strangers = effects.keys() - ends.keys()
    assert not strangers, f"seed {SEED}: nobody asked for {strangers}"
    for order, (run_id, state) in ends.items():
        paid = effects[order]
        if state == "SUCCEEDED":
            assert paid == 1, f"seed {SEED}: run {run_id} says that {order} is paid, and it is not"
        elif state == "FAILED":
            assert paid == 0, f"seed {SEED}: run {run_id} says that {order} is not paid, and it is"
        else:
            run = stack.rest.get(f"/api/runs/{run_id}")
            assert run["unresolved_effects"] == ["charge"], f"seed {SEED}: {run}"
            assert "claimed it in scope" in run["waiting"]["why"], f"seed {SEED}: {run['waiting']}"
    return Counter(state for _, state in ends.values())


def test_every_payment_moves_once_or_is_shown(tmp_path):
    """0 double charges, whatever breaks: providers, nodes, the mesh, the orchestrator."""
    print(f"PAYMENTS={PAYMENTS} PAYMENTS_SEED={SEED}")
    chance = random.Random(SEED)
    with running_payments() as providers:
        environment = {**providers.environment, "REFLUX_LEASE_SECONDS": "2"}
        with running_stack(tmp_path / "data", environment=environment) as stack:
            save(stack.rest)
            providers.odds(SEED, **ODDS)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                with faults(stack, providers, chance) as broken:
                    begun = [*pool.map(lambda number: begin(stack.rest, number), range(PAYMENTS))]
                    half = begun[: PAYMENTS // 2]
                    [*pool.map(lambda each: settle(stack.rest, each[1]), half)]
                states = [*pool.map(lambda each: settle(stack.rest, each[1]), begun)]
            time.sleep(LATEST)
            ends = {order: (run_id, state) for (order, run_id), state in zip(begun, states, strict=True)}
            told = judge(stack, providers, ends)
            refunded = sum(each["refunded"] for each in providers.charges())
    print(f"{dict(told)}, {refunded} given back; broken: {dict(broken)}")
    assert told["SUCCEEDED"] > PAYMENTS * 0.8, told
    assert broken, "nothing was broken"
