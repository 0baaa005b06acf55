"""Payments under random faults, and kills of everything: one effect each, or PARKED and shown.

The promise (G4): exactly one effect, or VOIDED before another provider is asked, or PARKED with the evidence.
The judge counts gross what the providers recorded: its rules are in `payment_verdict`, what breaks in
`payment_storm`.
Some payments by default; `make payments` makes 10,000. The schedule follows a seed, which is printed:
PAYMENTS_SEED plays it again. PAYMENTS_MINUTES bounds how long payments are begun.
"""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos.payment_storm import storm
from tests.chaos.payment_summary import STEP, Met, end_of, meet, summary
from tests.chaos.payment_verdict import End, judge
from tests.support.payments import running_payments
from tests.support.rest import Rest
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.timeout(4 * 3600)

PAYMENTS = int(os.environ.get("PAYMENTS", "60"))
SEED = int(os.environ.get("PAYMENTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
MINUTES = float(os.environ.get("PAYMENTS_MINUTES", "0"))
"""After so many no more are begun, and the verdict is over those that were; 0: all are."""
AT_ONCE = 12
"""Requests of the test."""
UNDER_WAY = 60
"""Payments."""
PACE = 6 if PAYMENTS < 1_000 else 20
"""Charges from one broken thing to the next: starting a process again costs as much as many payments."""
ODDS = {
    "limited": 0.05,
    "decline": 0.03,
    "lose": 0.08,
    "late": 0.03,
    "hang": 0.02,
    "broken": 0.04,
    "dead": 0.01,
}
GOING = "states=QUEUED&states=RUNNING&states=CANCELING"
PATIENCE = 240.0
"""Seconds that a run may take once nothing breaks any more, and that the edge may be gone."""
LATEST = 3.0
"""Seconds after which no charge is still on its way."""


def asked(rest: Rest, method: str, path: str, document: Any = None) -> Any:
    """The answer of a call that is repeated while parts of the system are down."""
    deadline, last = time.monotonic() + PATIENCE, ""
    while time.monotonic() < deadline:
        try:
            answer = rest(method, path, document, seconds=10)
            if answer.status == 200:
                return answer.json
            last = f"{answer.status}: {answer.body.decode(errors='replace')}"
        except OSError as error:
            last = repr(error)
        time.sleep(0.2)
    raise AssertionError(f"seed {SEED}: {method} {path} was answered by nobody; last {last}")


def begin(rest: Rest, number: int) -> tuple[str, str]:
    """Begins a payment; its order, and the id of its run."""
    order = f"order-{number}"
    path = f"/api/flows/pay/execute?request_id={order}"
    return order, str(asked(rest, "POST", path, {"order": order, "amount": 100 + number})["id"])


def going(rest: Rest) -> list[str]:
    """Runs that go on, up to 1,000 of them."""
    return [run["id"] for run in asked(rest, "GET", f"/api/runs?flow_id=pay&page_size=1000&{GOING}")["runs"]]


def begin_all(rest: Rest, pool: ThreadPoolExecutor) -> dict[str, str]:
    """Begins all payments, as many at a time as may be under way; run ids by order."""
    begun: dict[str, str] = {}
    since = told = time.monotonic()
    while len(begun) < PAYMENTS and not 0 < MINUTES * 60 < time.monotonic() - since:
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"{len(begun)} begun after {(told - since) / 60:.0f} minutes", flush=True)
        room = min(UNDER_WAY - len(going(rest)), PAYMENTS - len(begun))
        if room <= 0:
            time.sleep(1.0)
            continue
        begun.update(pool.map(lambda number: begin(rest, number), range(len(begun), len(begun) + room)))
    return begun


def drain(rest: Rest, left: int, seconds: float) -> list[str]:
    """Waits until no more than `left` go on; those that do after `seconds`."""
    deadline = time.monotonic() + seconds
    while len(late := going(rest)) > left and time.monotonic() < deadline:
        time.sleep(0.5)
    return late


def save(rest: Rest) -> None:
    """The flow that pays."""
    step = {
        "id": STEP,
        "node": "payment.charge",
        "with": {
            "amount": "{{ input.amount }}",
            "currency": "USD",
            "source": {"stripe": "pm_1", "paypal": "vault-1", "square": "ccof:1"},
            "description": "{{ input.order }}",
        },
        "timeout": {"attempt": "4s"},
        "retry": {
            "attempts": 5,
            "delay": "500ms",
            "on": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"],
        },
    }
    rest("PUT", "/api/flows/pay?allow_missing=true", {"name": "pay", "spec": {"steps": [step]}}).ok()
    targets = [
        {"version": "stripe", "weight": 5000, "fallback": ["paypal", "square"]},
        {"version": "paypal", "weight": 3000, "fallback": ["square", "stripe"]},
        {"version": "square", "weight": 2000, "fallback": ["stripe", "paypal"]},
    ]
    targets = [each | {"ejection": {"base_time": "3s"}} for each in targets]
    rest("PUT", "/api/routes/payment.charge", {"targets": targets}).ok()


def told(rest: Rest, run_id: str) -> tuple[Any, Any]:
    """A run, and its step that pays."""
    run = asked(rest, "GET", f"/api/runs/{run_id}")
    steps = asked(rest, "GET", f"/api/runs/{run_id}/steps")["steps"]
    return run, next((step for step in steps if step["id"] == STEP), None)


def test_every_payment_moves_once_or_is_shown(tmp_path):
    """0 double charges, whatever breaks: providers, nodes, the mesh, the orchestrator."""
    print(f"PAYMENTS={PAYMENTS} PAYMENTS_SEED={SEED}", flush=True)
    chance, since = random.Random(SEED), time.monotonic()
    with running_payments() as providers, ThreadPoolExecutor(AT_ONCE) as pool:
        environment = {**providers.environment, "REFLUX_LEASE_SECONDS": "5"}
        with running_stack(tmp_path / "data", environment=environment) as stack:
            rest = stack.rest
            save(rest)
            providers.odds(SEED, **ODDS)
            with storm(stack, providers, chance, PACE) as broken:
                begun = begin_all(rest, pool)
                drain(rest, min(UNDER_WAY, PAYMENTS) // 5, PATIENCE)
            stuck = drain(rest, 0, PATIENCE)
            assert not stuck, f"seed {SEED}: {len(stuck)} go on and on: {_why(stack, stuck)}"
            time.sleep(LATEST)
            ends: dict[str, End] = {}
            met = Met()
            for order, (run, step) in zip(
                begun, pool.map(lambda run_id: told(rest, run_id), begun.values()), strict=True
            ):
                ends[order] = end_of(run, step)
                meet(met, run, step)
            verdict = judge(providers.moves(), ends)
            dealt = providers.faults()
    took = time.monotonic() - since
    print(summary(payments=len(begun), verdict=verdict, met=met, dealt=dealt, broken=broken, seconds=took))
    assert not verdict.doubled, f"seed {SEED}: {verdict.wrong}"
    assert not verdict.wrong, f"seed {SEED}: {verdict.wrong}"
    well = sum(count for name, count in met.outcomes.items() if name.startswith("SUCCEEDED"))
    # A storm that lets little through would prove little.
    assert well > len(begun) * 0.5, met.outcomes
    assert broken.done, "nothing was broken"


def _why(stack: Stack, stuck: list[str]) -> list[Any]:
    return [(run_id, stack.rest.get(f"/api/runs/{run_id}").get("waiting")) for run_id in stuck[:5]]
