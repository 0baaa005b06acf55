"""What is in a world beside one flow and its clients: limits, signals under a key, forks, schedules.

Half of the flows has none of it: those worlds are quick, and change least when something is added here.
The others draw what they have, and often have several, because it is together that such things go wrong.
"""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import Any, Final

PLAIN: Final = (1, 2)
"""Of four flows, those that have nothing of it."""
TOGETHER_EVERY: Final = 8
"""One flow of so many has calls that travel together, or outputs that are used again."""
SHOPS: Final = ("a", "a", "b")
"""Of runs that share a limit, or wait for the same signal."""
EVERY_SECONDS: Final = 2
"""Between two firings of the schedule."""
TRIGGER: Final = "often"


class Feature(StrEnum):
    """One of them."""

    LIMITS = "limits"
    SIGNALS = "signals"
    FORKS = "forks"
    SCHEDULES = "schedules"
    BATCHES = "batches"
    CACHE = "cache"


_USUAL: Final = (Feature.LIMITS, Feature.SIGNALS, Feature.FORKS, Feature.SCHEDULES)
ITEMS: Final = (1, 2, 1, 2)
"""What the loop with a cache goes through: half of it it need not do."""


def features_of(number: int) -> frozenset[Feature]:
    """Those of the flow with this number."""
    if number % 4 in PLAIN:
        return frozenset()
    rng = Random(f"features {number}")
    drawn = [feature for feature in _USUAL if rng.random() < 0.3] or [rng.choice(_USUAL)]
    if number % TOGETHER_EVERY == 3:
        drawn += rng.choice([[Feature.BATCHES], [Feature.CACHE], [Feature.BATCHES, Feature.CACHE]])
    return frozenset(drawn)


def spec_of(features: frozenset[Feature], rng: Random) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The first steps of a flow with these, and what stands beside its steps."""
    steps: list[dict[str, Any]] = []
    spec: dict[str, Any] = {}
    if Feature.LIMITS in features:
        spec["policies"] = _limits(rng)
    if Feature.SIGNALS in features:
        steps = [_wait("k0", rng)]
        steps += [{"id": "k1", "parallel": {"branches": {"a": [_wait("k2", rng)], "b": [_wait("k3", rng)]}}}]
        rng.shuffle(steps)
        del steps[rng.randint(1, 2) :]
    if Feature.BATCHES in features:
        steps += [_loop("b0", [*range(rng.randint(3, 6))], rng, retry={"attempts": 2, "delay": "1s"})]
    if Feature.CACHE in features:
        steps += [_loop("c0", [*ITEMS], rng, cache={"ttl": "60s"})]
    if Feature.SCHEDULES in features:
        trigger = {"id": TRIGGER, "type": "interval", "every": f"{EVERY_SECONDS}s"}
        trigger["catchup"] = rng.choice(["last", "all", "all"])
        trigger["overlap"] = rng.choice(["allow", "allow", "skip", "cancel"])
        given = {"yes": True, "no": False, "n": 3, "shop": "a"}
        spec["triggers"] = [{**trigger, "input": given, "jitter": rng.choice(["1ms", "900ms"])}]
    return steps, spec


def _limits(rng: Random) -> dict[str, Any]:
    overflow = rng.choice(["queue", "queue", "reject", "cancel_oldest"])
    limit = {"key": "{{ input.shop }}", "limit": rng.choice([1, 1, 2]), "overflow": overflow}
    policies: dict[str, Any] = {"concurrency": limit}
    if rng.random() < 0.3:
        policies["rate"] = {"limit": rng.choice([1, 2]), "per": rng.choice(["1s", "4s"]), "overflow": "queue"}
    if rng.random() < 0.3:
        policies["priority"] = "{{ input.?rank ?? 5 }}"
    return policies


def _loop(step: str, items: list[int], rng: Random, **keys: Any) -> dict[str, Any]:
    """Calls of a pure node beside each other."""
    inner = {"id": f"{step}i", "node": "pure", "with": {"n": "{{ it }}"}, "on_error": "continue", **keys}
    loop = {"in": items, "as": "it", "parallel": rng.randint(2, len(items))}
    return {"id": step, "foreach": loop, "steps": [inner]}


def _wait(step: str, rng: Random) -> dict[str, Any]:
    wait = {"signal": "ready", "key": "{{ input.shop }}", "timeout": rng.choice(["3s", "9s"])}
    return {"id": step, "wait": {**wait, "on_timeout": rng.choice(["fail", "continue", "continue"])}}
