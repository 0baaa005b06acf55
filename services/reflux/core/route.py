"""Draws: the random value of a weighted choice, made from what is being routed.

Envoy takes `draw mod total weight`, cumulative in the order of the targets; the draw travels in a header, so
the same attempt always draws the same and a replay draws nothing. The node's name is part of the hash: two
nodes never share their luck. The functions are fixed for ever, because journals name their results.
"""

import hashlib
from typing import Final

from reflux.core.names import RunId, StepPath

TOTAL_WEIGHT: Final = 10_000
"""Basis points that the weights of a route sum to."""


def draw(node: str, run_id: RunId, step: StepPath, attempt: int) -> int:
    """The draw of one attempt, 0 to 9999, uniform over runs, steps and attempts."""
    text = f"{node}\n{run_id}\n{step}\n{attempt}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % TOTAL_WEIGHT


def idempotency_key(run_id: RunId, step: StepPath, generation: int) -> str:
    """The effect-once handle of a step: the same for every attempt of one generation."""
    return hashlib.sha256(f"{run_id}\n{step}\n{generation}".encode()).hexdigest()


def shadow_draw(node: str, run_id: RunId, step: StepPath, attempt: int) -> int:
    """The draw that says whose shadow gets a copy of an attempt, 0 to 9999; it shares no luck with `draw`."""
    text = f"shadow\n{node}\n{run_id}\n{step}\n{attempt}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % TOTAL_WEIGHT


def shadow_cluster(node: str, version: str) -> str:
    """What the mesh calls the place where copies for a version go; named as chains are, so that statistics
    show it whole.
    """
    return f"{node}~shadow~{hashlib.sha256(version.encode()).hexdigest()[:12]}"
