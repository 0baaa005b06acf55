"""What breaks around the payments: providers, node processes, Envoy, the orchestrator.

The providers' own faults (`tests.support.payments`) are drawn for each key; here is what happens to processes
and to connections, one thing after the other, each some charges after the one before, so that a slow machine
is broken no more often than a fast one. A seed draws what and when:

    orchestrator, envoy   kill -9; and `nodes`, the process that serves all versions
    own node              kill -9 of a process that serves one version; there is one for each, beside `nodes`
    refuse                a provider takes no connection for about a second: claimed, and surely not sent
    outage                the same for so long that Envoy ejects the version

Beside it the own nodes stop themselves (SIGSTOP) right after claims, by a small chance, and are woken some
seconds later, while other things break: what they had claimed is sent then. At the end everything is well.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support.pausing_node import PausingNode
from tests.support.payments import PROVIDERS

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.support.payments import Payments
    from tests.support.stack import Stack

WEIGHTS: Final = {
    "orchestrator": 2,
    "envoy": 2,
    "nodes": 1,
    "own node": 1,
    "refuse": 4,
    "outage": 1,
}
BETWEEN: Final = 0.3
"""Seconds from one thing to the next, at least."""
LONGEST: Final = 40.0
"""And at most, when no charge is made meanwhile."""
REST: Final = 65.0
"""Seconds from one end of a part of the stack to its next: who ends it sooner measures how long a supervisor
waits, not what becomes of payments."""
PAUSE: Final = (1.0, 6.0)
PAUSES: Final = 0.08
"""Of the claims of an own node."""
REFUSAL: Final = (0.1, 1.5)
OUTAGE: Final = (3.0, 5.0)


@dataclass(slots=True)
class Broken:
    """What was broken."""

    done: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Storm:
    """Breaks things until it is over."""

    stack: Stack
    providers: Payments
    chance: random.Random
    own: dict[str, PausingNode]
    pace: int
    broken: Broken = field(default_factory=Broken)
    ended: dict[str, float] = field(default_factory=dict)
    """When each part was ended last."""
    over: threading.Event = field(default_factory=threading.Event)

    def break_things(self) -> None:
        """One thing after the other."""
        while self._time_has_come():
            now = time.monotonic()
            able = {name: w for name, w in WEIGHTS.items() if now - self.ended.get(name, 0.0) > REST}
            (what,) = self.chance.choices([*able], [*able.values()])
            provider = self.chance.choice(PROVIDERS)
            self.broken.done[what] += 1
            match what:
                case "own node":
                    self.own[provider].kill()
                    self.own[provider].start()
                case "refuse" | "outage":
                    self.providers.refuse(provider)
                    self.over.wait(self.chance.uniform(*(REFUSAL if what == "refuse" else OUTAGE)))
                    self.providers.refuse(provider, refusing=False)
                case part:
                    self.ended[part] = now
                    # It may not have come back from the last time.
                    with suppress(ProcessLookupError, AssertionError):
                        self.stack.kill(part)

    def _time_has_come(self) -> bool:
        """Whether one more thing is broken, after a while."""
        wanted = self.providers.count() + self.chance.randint(1, 2 * self.pace - 1)
        latest = time.monotonic() + LONGEST
        while not self.over.wait(BETWEEN):
            if self.providers.count() >= wanted or time.monotonic() > latest:
                return True
        return False

    def wake_up(self, chance: random.Random) -> None:
        """Wakes own nodes that stopped themselves, each after its time."""
        due: dict[str, float] = {}
        while not self.over.is_set() or due:
            time.sleep(0.1)
            now = time.monotonic()
            for provider, node in self.own.items():
                if provider not in due and node.stopped():
                    self.broken.done["paused after its claim"] += 1
                    due[provider] = now + chance.uniform(*PAUSE)
                if due.get(provider, now + 1) <= now:
                    del due[provider]
                    node.go_on()


@contextmanager
def storm(stack: Stack, providers: Payments, chance: random.Random, pace: int) -> Iterator[Broken]:
    """Something breaks every `pace` charges until the block ends; then all of it is well again."""
    own = {
        name: PausingNode(
            stack, f"payment.charge@{name}", providers.environment, PAUSES, seed=chance.randrange(10**6)
        )
        for name in PROVIDERS
    }
    made = Storm(stack, providers, chance, own, pace)
    waker = threading.Thread(target=made.wake_up, args=(type(chance)(chance.random()),))
    breaker = threading.Thread(target=made.break_things)
    with ExitStack() as ends:
        before = {name: node.addresses() for name, node in own.items()}
        for node in own.values():
            ends.callback(node.kill)
            node.start()
        for name, node in own.items():
            node.wait_until_known(before[name])
        breaker.start()
        waker.start()
        try:
            yield made.broken
        finally:
            made.over.set()
            breaker.join()
            waker.join()
            for node in own.values():
                node.go_on()  # and it is drained with the block that follows
