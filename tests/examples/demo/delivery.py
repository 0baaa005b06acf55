"""(a) HTTP: fetch from the stack's own REST API, reshape in JavaScript, deliver to the ledger, once."""

from typing import Any

from rich.live import Live

from tests.examples.demo.screen import console, follow, save, steps_table
from tests.support.ledger import Ledger
from tests.support.stack import Stack


def show(stack: Stack, ledger: Ledger) -> dict[str, Any]:
    """The run, which has SUCCEEDED."""
    console.rule("[bold](a) HTTP: fetch, reshape in JavaScript, deliver")
    name = save(stack.rest, "http_delivery.yaml")
    given = {"source": f"{stack.rest.url}/api/nodes", "target": f"{ledger.url}/effect/delivery"}
    console.print(f"flow [bold]{name}[/], input {given}")
    run = stack.rest.post(f"/api/flows/{name}/execute", given)
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        final = follow(stack.rest, run["id"], lambda: live.update(steps_table(stack.rest, run["id"])))
    console.print(steps_table(stack.rest, run["id"]))
    delivered = [entry for entry in ledger.entries() if entry["name"] == "delivery"]
    console.print(f"run {final['id']} is [bold]{final['state']}[/], output {final['output']}")
    console.print(f"the ledger was told {len(delivered)} time(s): {delivered[-1]['body']}\n")
    assert final["state"] == "SUCCEEDED", final
    return final
