"""Every example does what its page says."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.examples.demo import canary, delivery, failover, kill
from tests.examples.demo.__main__ import asking_stack
from tests.examples.demo.screen import EXAMPLES
from tests.support.ledger import Ledger
from tests.support.stack import Stack, running_stack


def test_the_delivery_fetches_reshapes_and_delivers_once(stack: Stack, ledger: Ledger):
    """The outside was told exactly once what the run says it delivered."""
    before = len([entry for entry in ledger.entries() if entry["name"] == "delivery"])
    run = delivery.show(stack, ledger)
    delivered = [entry for entry in ledger.entries() if entry["name"] == "delivery"][before:]

    assert [entry["method"] for entry in delivered] == ["POST"]
    assert '"http.request"' in delivered[0]["body"]
    assert run["output"]["delivered"] == [
        "ai.chat",
        "http.request",
        "payment.charge",
        "payment.refund",
        "transform.execute",
    ]
    assert run["output"]["said"] == ["5 nodes"]


def test_killing_the_orchestrator_repeats_no_recorded_outcome(tmp_path: Path, ledger: Ledger):
    """The demo's own checks hold, and some call was really given up at the kill."""
    with running_stack(tmp_path / "data") as stack:
        journals = kill.show(stack, ledger)

    recovered = [run for run in journals if any(e["kind"] == "RunRecovered" for e in run["events"])]
    assert recovered, "the kill came too late to be one"


def test_a_provider_is_killed_under_load_and_no_run_fails(tmp_path: Path):
    """The demo's own checks hold: some calls fell back, then openai was passed over, then it came back."""
    with asking_stack(tmp_path / "data") as (stack, openai):
        load = failover.show(stack.rest, stack.state["urls"]["admin"], openai)

    by = {call.attempt["reason"]: call.attempt["answered_by"] for call in load.calls}
    assert set(by) == {"weight", "fallback", "ejected"}
    assert by["fallback"] == by["ejected"] == "anthropic"
    assert load.calls[-1].attempt["reason"] == "weight"


def test_a_canary_is_rolled_back_in_an_instant_and_no_run_fails(tmp_path: Path, ledger: Ledger):
    """The demo's own checks hold: every run succeeds, on the version that its draw predicts."""
    with running_stack(tmp_path / "data") as stack:
        load = canary.show(stack, ledger)

    assert {call.attempt["chosen"] for call in load.calls} == {"1.0.0", "2.0.0"}


def test_a_node_of_your_own_is_a_decorated_function(stack: Stack):
    """Started beside the stack it registers, gets its route, and answers steps."""
    port = stack.state["ports"]["registry"]
    environment = {**os.environ, "REFLUX_REGISTRY_ADDRESS": f"127.0.0.1:{port}"}
    process = subprocess.Popen([sys.executable, EXAMPLES / "nodes" / "pricing_quote.py"], env=environment)
    try:
        step = {"id": "price", "node": "pricing.quote", "with": {"sku": "abc", "quantity": 2}}
        document = {"name": "prices", "spec": {"steps": [step]}}
        stack.rest("PUT", "/api/flows/prices?allow_missing=true", document).ok()
        deadline = time.monotonic() + 30
        while not stack.rest.post("/api/flows/prices:plan")["valid"]:
            assert time.monotonic() < deadline, "the node did not register"
            time.sleep(0.1)
        run = stack.rest.post("/api/flows/prices/execute?wait=20s")
    finally:
        process.terminate()
        process.wait(20)

    assert run["output"] == {"total": 600}
