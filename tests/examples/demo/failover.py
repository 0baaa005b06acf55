"""(b) Failover: the provider behind ai.chat@openai is killed under load; no run fails; it comes back."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.examples.demo.load import Call, Load, running_load
from tests.examples.demo.screen import console, save, table
from tests.support.provider import Provider
from tests.support.rest import Rest

CALLERS: Final = 4
CALLS: Final = 40
"""Seen in each act."""
EJECTED_SECONDS: Final = 5
"""For the demo; by default an ejection lasts 30 s."""


def show(rest: Rest, admin: str, openai: Provider) -> Load:
    """All calls; each run has SUCCEEDED.

    Args:
        rest: the edge.
        admin: URL of the admin interface of the mesh's Envoy.
        openai: the process behind ai.chat@openai, and behind nothing else.
    """
    console.rule("[bold](b) LLM failover: ai.chat at 70/30/0, and the first provider dies")
    flow = save(rest, "ask_a_model.yaml")
    rows = table(
        "act", "calls", "openai", "anthropic", "fell back", "passed over", "ejected now", "failed runs"
    )
    question = {"question": "Is this order odd?"}
    with (
        _short_ejections(admin),
        running_load(rest, flow, question, callers=CALLERS) as load,
    ):
        rows.add_row("both are well", *_counted(admin, load.until(lambda calls: len(calls) >= CALLS)))
        openai.kill()
        calls = load.until(lambda calls: _are(calls, "ejected") >= 5 and len(calls) >= CALLS)
        rows.add_row("[bold]kill -9 of the provider of openai[/]", *_counted(admin, calls))
        openai.restart()
        load.until(lambda calls: any(_is_back(call) for call in calls))
        rows.add_row("it is back", *_counted(admin, load.until(lambda calls: len(calls) >= CALLS)))
    console.print(rows)
    _check(load)
    _explain(load)
    return load


@contextmanager
def _short_ejections(admin: str) -> Iterator[None]:
    """Ejections of `EJECTED_SECONDS`, by Envoy's admin interface: a way to try things, not to run them."""
    keys = ("outlier_detection.base_ejection_time_ms", "outlier_detection.max_ejection_time_ms")
    _post(admin, "/runtime_modify?" + "&".join(f"{key}={EJECTED_SECONDS * 1000}" for key in keys))
    try:
        yield
    finally:
        _post(admin, "/runtime_modify?" + "&".join(f"{key}=" for key in keys))


def _post(admin: str, path: str) -> None:
    request = urllib.request.Request(admin + path, method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def _ejected(admin: str) -> list[str]:
    """The versions whose only endpoint Envoy has taken out."""
    url = f"{admin}/stats?format=json&filter=outlier_detection.ejections_active"
    with urllib.request.urlopen(url, timeout=10) as response:
        stats: list[dict[str, Any]] = json.load(response)["stats"]
    return [each["name"].split(".outlier")[0].removeprefix("cluster.") for each in stats if each["value"]]


def _are(calls: list[Call], reason: str) -> int:
    return sum(call.attempt["reason"] == reason for call in calls)


def _is_back(call: Call) -> bool:
    return bool(call.attempt["chosen"] == call.attempt["answered_by"] == "openai")


def _counted(admin: str, calls: list[Call]) -> tuple[str, ...]:
    by = [call.attempt["answered_by"] for call in calls]
    failed = sum(call.state != "SUCCEEDED" for call in calls)
    numbers = (
        len(calls),
        by.count("openai"),
        by.count("anthropic"),
        _are(calls, "fallback"),
        _are(calls, "ejected"),
    )
    return (*map(str, numbers), ", ".join(_ejected(admin)) or "-", str(failed))


def _check(load: Load) -> None:
    """No run failed; some fell back, then openai was passed over, then it came back."""
    assert all(call.state == "SUCCEEDED" for call in load.calls), load.calls
    by = {call.attempt["reason"]: call.attempt["answered_by"] for call in load.calls}
    assert set(by) == {"weight", "fallback", "ejected"}, by
    assert by["fallback"] == by["ejected"] == "anthropic", by
    assert load.calls[-1].attempt["reason"] == "weight", load.calls[-1]


def _explain(load: Load) -> None:
    """One call of each kind, in words: who was chosen, who answered, and why."""
    for reason, why in (
        ("fallback", "down: Envoy went on to the next version in the same call"),
        ("ejected", f"out for {EJECTED_SECONDS} s after 5 failures in a row: nobody waited for it"),
    ):
        call = next(call for call in load.calls if call.attempt["reason"] == reason)
        draw, chosen, by, tries = (call.attempt[key] for key in ("draw", "chosen", "answered_by", "tries"))
        console.print(
            f"[bold]{reason}[/]: draw {draw} chose {chosen}, which was {why}; {by} answered ({tries} tries)"
        )
    console.print(f"{len(load.calls)} runs, 0 failed.\n")
