"""(c) Canary: a new version takes a tenth, half, all of the load, and is rolled back in an instant."""

import time
from typing import Any, Final

from tests.examples.demo.load import Call, Load, running_load
from tests.examples.demo.screen import console, save, table
from tests.support.ledger import Ledger
from tests.support.stack import Stack

ROUTE: Final = "/api/routes/http.request"
CALLERS: Final = 4
CALLS: Final = 60
"""Seen at each weight before the next one."""
SETTLE_SECONDS: Final = 0.25
"""Envoy's workers take a new route some milliseconds after it was acknowledged."""


def show(stack: Stack, ledger: Ledger) -> Load:
    """All calls; each run has SUCCEEDED, on the version that its draw predicts."""
    console.rule("[bold](c) Canary: http.request@2.0.0 takes 10 %, more, and none again")
    rest = stack.rest
    flow = save(rest, "watch_a_page.yaml")
    stable = rest.get(ROUTE)["revision"]
    rows = table("what", "Envoy has it after", "calls", "to 1.0.0", "to 2.0.0", "failed")
    with running_load(rest, flow, {"url": f"{ledger.url}/effect/canary"}, callers=CALLERS) as load:
        for weight in (1000, 5000, 10_000):
            what = f"2.0.0 takes {weight / 100:.0f} %"
            targets = [
                {"version": "1.0.0", "weight": 10_000 - weight},
                {"version": "2.0.0", "weight": weight},
            ]
            took = _changed(stack, "PUT", ROUTE, {"targets": targets, "note": f"demo: {what}"})
            rows.add_row(what, *_counted(load.until(lambda calls: len(calls) >= CALLS), took))
        took = _changed(stack, "POST", f"{ROUTE}/revisions/{stable}:rollback")
        back = time.monotonic()
        after = load.until(lambda calls: len(calls) >= CALLS)
        rows.add_row(f"[bold]rolled back to revision {stable}[/]", *_counted(after, took))
    console.print(rows)
    _check(load, back)
    late = max((call.began - back for call in load.calls if call.attempt["chosen"] == "2.0.0"), default=0.0)
    when = f"{1000 * late:.0f} ms after" if late > 0 else "before"
    console.print(
        f"{len(load.calls)} runs, 0 failed, each on the version that its draw predicts. "
        f"The last call that reached 2.0.0 began {when} the answer to the rollback.\n"
    )
    return load


def _changed(stack: Stack, method: str, path: str, document: Any = None) -> float:
    """Changes the route; seconds until Envoy had it."""
    begun = time.monotonic()
    route = stack.rest(method, path, document).ok()
    assert route["state"] == "APPLIED", route
    return time.monotonic() - begun


def _counted(calls: list[Call], took: float) -> tuple[str, ...]:
    chosen = [call.attempt["chosen"] for call in calls]
    failed = sum(call.state != "SUCCEEDED" for call in calls)
    return (
        f"{1000 * took:.0f} ms",
        str(len(calls)),
        str(chosen.count("1.0.0")),
        str(chosen.count("2.0.0")),
        str(failed),
    )


def _check(load: Load, back: float) -> None:
    """No run failed, each draw was obeyed, and the rollback held."""
    for call in load.calls:
        attempt = call.attempt
        assert call.state == "SUCCEEDED", call
        share = attempt["weight"] if attempt["chosen"] == "1.0.0" else 10_000 - attempt["weight"]
        assert (attempt["draw"] < share) == (attempt["chosen"] == "1.0.0"), call
    assert {call.attempt["chosen"] for call in load.calls} == {"1.0.0", "2.0.0"}
    strays = [call for call in load.since(back + SETTLE_SECONDS) if call.attempt["chosen"] != "1.0.0"]
    assert not strays, strays
