"""Every example does what its page says; the README's test runs `make demo` for all its stories."""

import os
import subprocess
import sys
import time

from tests.examples.demo import delivery
from tests.examples.demo.screen import EXAMPLES
from tests.support.ledger import Ledger
from tests.support.stack import Stack


def test_the_delivery_fetches_reshapes_and_delivers_once(stack: Stack, ledger: Ledger):
    """The outside was told exactly once what the run says it delivered."""
    before = len([entry for entry in ledger.entries() if entry["name"] == "delivery"])
    run = delivery.show(stack, ledger)
    delivered = [entry for entry in ledger.entries() if entry["name"] == "delivery"][before:]

    assert [entry["method"] for entry in delivered] == ["POST"]
    assert '"http.request"' in delivered[0]["body"]
    told = run["output"]["delivered"]
    shipped = {"ai.chat", "http.request", "payment.charge", "payment.refund", "transform.execute"}
    assert shipped <= set(told)  # others of the stack's tests may have come
    assert told == sorted(told)
    assert run["output"]["said"] == [f"{len(told)} nodes"]


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
