"""Callers that start runs of a flow, one after the other, and note who answered each and why."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.rest import Rest


@dataclass(frozen=True, slots=True)
class Call:
    """A run of one call, and its last attempt."""

    began: float
    """Monotonic time at which the run was asked for."""
    run_id: str
    state: str
    attempt: dict[str, Any]
    """As `/steps` shows it: chosen, answered_by, reason, weight, revision, draw, tries."""


@dataclass(slots=True)
class Load:
    """What the callers have seen so far."""

    calls: list[Call] = field(default_factory=list)

    def since(self, moment: float) -> list[Call]:
        """The calls of runs asked for after that monotonic time."""
        return [call for call in list(self.calls) if call.began >= moment]

    def until(self, enough: Callable[[list[Call]], bool], *, seconds: float = 60.0) -> list[Call]:
        """The calls from now on, once they are enough.

        Raises:
            AssertionError: they were not, in that time.
        """
        begun = time.monotonic()
        while not enough(calls := self.since(begun)):
            assert time.monotonic() - begun < seconds, f"not seen within {seconds:.0f} s: {summary(calls)}"
            time.sleep(0.02)
        return calls


@contextmanager
def running_load(rest: Rest, flow: str, document: Any, *, callers: int) -> Iterator[Load]:
    """So many callers within the block; every run that they began has ended after it."""
    load, over = Load(), threading.Event()

    def call() -> None:
        while not over.is_set():
            began = time.monotonic()
            run = rest.post(f"/api/flows/{flow}/execute?wait=60s", document)
            [step] = [
                step for step in rest.get(f"/api/runs/{run['id']}/steps")["steps"] if step["action"] == "node"
            ]
            load.calls.append(Call(began, run["id"], run["state"], step["attempts"][-1]))

    with ThreadPoolExecutor(callers) as pool:
        tasks = [pool.submit(call) for _ in range(callers)]
        try:
            yield load
        finally:
            over.set()
    for task in tasks:
        task.result()


def answers(calls: list[Call]) -> Counter[tuple[str, str, str]]:
    """How many calls were (chosen, answered by, reason)."""
    keys = ("chosen", "answered_by", "reason")
    return Counter(tuple(str(call.attempt[key]) for key in keys) for call in calls)  # type: ignore[misc]


def summary(calls: list[Call]) -> str:
    """`answers` in a line."""
    return ", ".join(f"{'→'.join(key)}: {count}" for key, count in answers(calls).most_common()) or "no call"
