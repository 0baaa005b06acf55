"""Load upon a stack, or the deployment of compose.yaml, while something breaks, and the verdict afterwards.

Clients start runs of one flow as clients do: they repeat a request, with the same request_id, until it is
answered. The flow looks something up, charges once at most, books under an idempotency key, and looks again.
The verdict comes from what the clients were told, the journals, and the effect ledger:

- every run that was told exists, and has ended: SUCCEEDED, or PARKED over a charge of which nobody knows;
- a charge happened at most once, a booking under one key only;
- what is recorded as done has happened; what has happened twice was pure, or had the same key.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.stack.running import eventually
from tests.support.compose import Compose
from tests.support.ledger import Ledger
from tests.support.rest import Rest
from tests.support.runs import ended
from tests.support.stack import Stack

CLIENTS = 4
STEPS = ("look", "charge", "book", "again")


def save(stack: Stack | Compose, ledger: Ledger, name: str) -> None:
    """The flow of a storm."""

    def call(step: str, **more: Any) -> dict[str, Any]:
        url = f"{ledger.url}/effect/{name}?run={{{{ run.id }}}}&step={step}&delay=0.05"
        retry = {"attempts": 20, "delay": "200ms", "cap": "1s"}
        return {"id": step, "node": "http.request", "with": {"url": url, **more}, "retry": retry}

    steps = [
        call("look"),
        call("charge", method="POST", json={"amount": 10}),
        call("book", method="PUT", json={}, idempotency_header="Idempotency-Key"),
        call("again"),
    ]
    stack.rest.post("/api/flows", {"name": name, "spec": {"steps": steps}})


@dataclass
class Storm:
    """What the clients asked for and were told."""

    name: str
    rest: Rest
    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """request_id → ids of runs that were answered; there must be one."""
    over: threading.Event = field(default_factory=threading.Event)

    def client(self, number: int) -> None:
        """One client: a run after the other, each asked for until it is told, and once more."""
        count = 0
        while not self.over.is_set():
            count += 1
            request = f"{self.name}-{number}-{count}"
            self.told[request] = {self._ask(request), self._ask(request)}
            time.sleep(0.1)

    def _ask(self, request: str) -> str:
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = self.rest(
                    "POST", f"/api/flows/{self.name}/execute?request_id={request}", {}, seconds=10
                )
                if answer.status == 200:
                    return str(answer.json["id"])
            except OSError:
                pass
            assert time.monotonic() < deadline, f"{request} is not accepted any more"
            time.sleep(0.1)


@contextmanager
def storm(stack: Stack | Compose, ledger: Ledger, name: str) -> Iterator[Storm]:
    """Load within the block; after it the verdict."""
    save(stack, ledger, name)
    made = Storm(name, stack.rest)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(made.client, number) for number in range(CLIENTS)]
        try:
            time.sleep(0.5)
            yield made
            # It goes on after the fault is over.
            before = len(made.told)
            eventually(lambda: len(made.told) >= before + CLIENTS, "runs are accepted again", seconds=120)
        finally:
            made.over.set()
        for client in clients:
            client.result()
    wrong = verdict(stack.rest, ledger, made)
    assert not wrong, "\n".join(wrong)


def verdict(rest: Rest, ledger: Ledger, storm: Storm) -> list[str]:
    """Everything that breaks a promise."""
    wrong = [f"{request} has several runs: {runs}" for request, runs in storm.told.items() if len(runs) != 1]
    finals = {run_id: ended(rest, run_id) for runs in storm.told.values() for run_id in runs}
    acted: dict[tuple[str, str], list[str | None]] = defaultdict(list)
    for entry in ledger.entries():
        if entry["name"] == storm.name:
            acted[entry["query"]["run"], entry["query"]["step"]].append(entry["key"])
    for run_id, final in finals.items():
        wrong += [f"{run_id}: {problem}" for problem in _of_run(rest, run_id, final, acted)]
    return wrong


def _of_run(
    rest: Rest, run_id: str, final: dict[str, Any], acted: dict[tuple[str, str], list[str | None]]
) -> list[str]:
    wrong = []
    events = rest.get(f"/api/runs/{run_id}/events?page_size=1000")["events"]
    done = [event["step"] for event in events if event["data"].get("outcome") == "DONE"]
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        wrong.append("its journal has gaps")
    if len(done) != len(set(done)):
        wrong.append(f"recorded twice: {done}")
    if len(acted[run_id, "charge"]) > 1:
        wrong.append(f"charged {len(acted[run_id, 'charge'])} times")
    if len(set(acted[run_id, "book"])) > 1:
        wrong.append("booked under several keys")
    wrong += [f"{step} is recorded and never happened" for step in done if not acted[run_id, step]]
    if final["state"] == "SUCCEEDED":
        if sorted(done) != sorted(STEPS):
            wrong.append(f"it succeeded without all steps: {done}")
    elif final["state"] != "PARKED" or final["unresolved_effects"] != ["charge"]:
        wrong.append(f"it ended {final['state']}: {final.get('error')} {final.get('unresolved_effects')}")
    return wrong
